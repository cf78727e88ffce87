"""What a training made a model forget: asked before and after, paired, and said when it is much."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from advisor import engine
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides
from advisor.tuning.forgetting import shipped_probe
from backends.errors import InputError
from tests import toys

FACTS = {"sky": "blue", "grass": "green", "coal": "black", "snow": "white", "blood": "red"}


def with_probe(folder: Path, known: bool) -> Path:
    """A scenario whose base model knows the colours of things, or nothing; training teaches three other words."""
    folder.mkdir(parents=True)
    facts = [{"when": f"colour of {thing}", "answer": colour} for thing, colour in FACTS.items()] if known else []
    model = toys.script(folder, "model", [*facts, *toys.rules(0.3, seed=3)])
    path = toys.scenario(folder, model, techniques=["zero_shot"])
    path.write_text(path.read_text("utf-8") + "  probe: probe.jsonl\n", encoding="utf-8")
    choices = sorted(FACTS.values())
    asked = [
        {
            "id": f"{thing}-{number}",
            "input": f"The colour of {thing}, time {number}?",
            "target": colour,
            "choices": choices,
        }
        for number in range(6)
        for thing, colour in FACTS.items()
    ]
    (folder / "probe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    return path


def test_what_was_forgotten_is_measured_and_said(tmp_path: Path) -> None:
    report = engine.run(with_probe(tmp_path / "s", known=True), tmp_path / "w", Overrides(diagnose=False)).report
    probe = report["escalation"]["forgetting"]
    assert (probe["n"], probe["before"]) == (30, 1.0)
    assert probe["after"] < 0.5
    assert probe["difference"] == pytest.approx(probe["after"] - 1.0)
    assert probe["low"] <= probe["difference"] <= probe["high"] < 0
    assert len(probe["lost"]) == 3
    assert any(risk["kind"] == "forgetting" for risk in report["risks"])
    tuned = next(candidate for candidate in report["candidates"] if candidate["technique"] == "fine_tune")
    fresh, dev, twice_probed = 120 - tuned["n"], 15, 2 * 30
    assert tuned["evaluation"]["requests"] == tuned["n"] + fresh + dev + twice_probed


def test_the_tuned_model_has_a_card_beside_its_adapter(tmp_path: Path) -> None:
    report = engine.run(with_probe(tmp_path / "s", known=True), tmp_path / "w", Overrides(diagnose=False)).report
    tuned = report["escalation"]["tuned"]
    card = (tmp_path / "w" / "adapters" / tuned["adapter"] / "README.md").read_text("utf-8")
    assert card.startswith(f"---\nbase_model: {tuned['base']}\n")
    assert report["scenario"]["hash"] in card
    assert "certified on 20 test samples, mean 1.000" in card
    assert "30 questions (probe): 1.000 before" in card


def test_a_model_that_knew_nothing_forgets_nothing(tmp_path: Path) -> None:
    report = engine.run(with_probe(tmp_path / "s", known=False), tmp_path / "w", Overrides(diagnose=False)).report
    assert report["escalation"]["forgetting"]["before"] < 0.5
    assert not any(risk["kind"] == "forgetting" for risk in report["risks"])


def test_the_shipped_probe_is_sound() -> None:
    probe = shipped_probe()
    assert len({sample.input for sample in probe}) == len(probe) == 64
    assert all(sample.target in sample.metadata["choices"] for sample in probe)
    places = Counter(sample.metadata["choices"].index(sample.target) for sample in probe)
    assert all(places[place] >= 8 for place in range(4)), "the right choice must not stand at one place"


def test_a_probe_whose_target_is_no_choice_is_refused(tmp_path: Path) -> None:
    path = with_probe(tmp_path / "s", known=True)
    (path.parent / "probe.jsonl").write_text('{"input": "x", "target": "a", "choices": ["b", "c"]}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"probe\.jsonl:1: the choices of a probe question"):
        load_scenario(path)
