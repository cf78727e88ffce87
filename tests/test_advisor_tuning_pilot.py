"""The pilot before a training: what it forecasts, when it says stop, and that it is paid for once."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advisor import engine
from advisor.events import Event, Piloting, Tuning
from advisor.fitting import FitCost
from advisor.outcome import Escalation
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides
from advisor.tuning.pilot import PilotRun, forecasts, part_of
from backends.errors import InputError
from backends.types import Usage
from tests import toys

SCHEMA = json.loads((Path(engine.__file__).parent / "report" / "schema.json").read_text("utf-8"))


def learnable(folder: Path, *, learnable: bool = True, **changes: Any) -> Path:
    """A task that prompting fails on; words give the labels away, or labels are drawn at random."""
    folder.mkdir(parents=True, exist_ok=True)
    model = toys.script(folder, "model", toys.rules(0.3, seed=3))
    path = toys.scenario(folder, model, **{"techniques": ["zero_shot"], **changes})
    rng = random.Random(1)
    for split, n in (("train", 200), ("dev", 60)):
        found = toys.rows(split, n)
        if not learnable:
            found = [row | {"target": rng.choice(toys.LABELS)} for row in found]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return path


def test_a_promising_pilot_is_followed_by_the_full_training(tmp_path: Path) -> None:
    report = engine.run(learnable(tmp_path / "s"), tmp_path / "w", Overrides(diagnose=False)).report
    jsonschema.validate(report, SCHEMA)
    escalation = report["escalation"]
    assert escalation["decision"] == "tuned"
    assert [(run["fraction"], run["samples"], run["n_dev"]) for run in escalation["pilot"]] == [
        (0.25, 50, 60),
        (0.5, 100, 60),
    ]
    assert escalation["forecast"]["p_reach"] > 0.9
    assert escalation["forecast"]["wanted"] == pytest.approx(0.75)
    assert "The pilot scored" in escalation["reason"]
    tuned = next(candidate for candidate in report["candidates"] if candidate["technique"] == "fine_tune")
    assert tuned["fit"]["usd"] > sum(run["usd"] for run in escalation["pilot"])
    assert report["spent"]["usd"] > tuned["fit"]["usd"] - 1e-9, "training is part of what was spent"


def test_a_pilot_without_a_chance_stops_before_the_full_training(tmp_path: Path) -> None:
    path = learnable(tmp_path / "s", learnable=False, goal={"target": 0.9, "margin": 0.05})
    trained: list[Event] = []
    finished = engine.run(path, tmp_path / "w", Overrides(diagnose=False), trained.append)
    escalation = finished.report["escalation"]
    assert escalation["decision"] == "stopped"
    assert escalation["tuned"] is None
    assert escalation["forecast"]["decision"] == "stop"
    assert {event.progress.steps for event in trained if isinstance(event, Tuning)} == {50, 100}
    tuned = next(candidate for candidate in finished.report["candidates"] if candidate["technique"] == "fine_tune")
    assert (tuned["status"], tuned["n"]) == ("skipped", 0)
    assert tuned["fit"]["usd"] == pytest.approx(sum(run["usd"] for run in escalation["pilot"]))
    assert finished.exit_code == 1


def test_always_trains_whatever_the_pilot_says(tmp_path: Path) -> None:
    changes = {"goal": {"target": 0.9, "margin": 0.05}}
    path = learnable(tmp_path / "s", learnable=False, **changes)
    text = path.read_text("utf-8").replace("when: needed", "when: always")
    path.write_text(text, encoding="utf-8")
    escalation = engine.run(path, tmp_path / "w", Overrides(diagnose=False)).report["escalation"]
    assert (escalation["decision"], escalation["forecast"]["decision"]) == ("tuned", "stop")


def test_every_fine_tune_is_tried_until_one_is_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toys.script(tmp_path, "model", toys.rules(1.0))
    techniques = ["zero_shot", *({"name": "fine_tune", "recipe": {"share": share}} for share in (0.5, 1.0))]
    fine_tune = {"when": "always", "backend": "scripted", "base": model}
    path = toys.scenario(tmp_path / "s", model, techniques=techniques, fine_tune=fine_tune)
    tried = []

    async def stopped(session: Any, ladder: Any, findings: Any, candidate: Any, reason: str) -> Escalation:
        tried.append(candidate.id)
        return Escalation("stopped", reason, candidate=candidate.id)

    monkeypatch.setattr("advisor.tuning.escalation._try", stopped)
    assert engine.run(path, tmp_path / "w", Overrides(diagnose=False)).report["pick"] is not None
    assert len(tried) == 2


def test_a_training_that_fails_shows_what_its_pilots_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(session: Any, candidate: Any, failed: dict[str, str], task: Any = None) -> None:
        failed[candidate.id] = "the disk is full"

    monkeypatch.setattr("advisor.tuning.training.prepare_or_note", fails)
    report = engine.run(learnable(tmp_path / "s"), tmp_path / "w", Overrides(diagnose=False)).report
    tuned = next(candidate for candidate in report["candidates"] if candidate["technique"] == "fine_tune")
    pilots = report["escalation"]["pilot"]
    assert len(pilots) == 2
    assert tuned["fit"]["usd"] == pytest.approx(sum(run["usd"] for run in pilots))
    assert tuned["fit"]["usd"] > 0


def test_a_killed_pilot_is_not_trained_twice(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill_at_the_second_size(event: Event) -> None:
        if isinstance(event, Piloting) and event.fraction == 0.5:
            raise Killed

    path = learnable(tmp_path / "s")
    with pytest.raises(Killed):
        engine.run(path, tmp_path / "w", Overrides(diagnose=False), kill_at_the_second_size)
    run_id = next((tmp_path / "w" / "runs").iterdir()).name
    trained: list[Event] = []
    resumed = engine.run(path, tmp_path / "w", observe=trained.append, resume=run_id).report
    assert {event.progress.steps for event in trained if isinstance(event, Tuning)} == {100, 200}
    whole = engine.run(path, tmp_path / "other", Overrides(diagnose=False)).report
    assert resumed["escalation"] == whole["escalation"]
    assert resumed["spent"]["usd"] == pytest.approx(whole["spent"]["usd"])


def test_too_few_samples_make_no_pilot(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "model", toys.rules(0.3, seed=3))
    report = engine.run(toys.scenario(tmp_path / "s", model), tmp_path / "w", Overrides(diagnose=False)).report
    assert (report["escalation"]["pilot"], report["escalation"]["forecast"]) == ([], None)


def test_a_larger_part_holds_every_smaller_one(tmp_path: Path) -> None:
    task = load_scenario(learnable(tmp_path / "s")).task
    small, large = ({one.id for one in part_of(task, fraction, 1).train} for fraction in (0.25, 0.5))
    assert small < large < {one.id for one in task.train}
    assert len(small) == 50


def test_a_curve_that_still_rises_steeply_is_not_stopped() -> None:
    cost = FitCost(Usage(), 1.0)
    steep = forecasts([PilotRun(0.25, 50, 0.25, 60, cost), PilotRun(0.5, 100, 0.58, 60, cost)], 0.85)
    flat = forecasts([PilotRun(0.25, 50, 0.40, 60, cost), PilotRun(0.5, 100, 0.42, 60, cost)], 0.85)
    assert steep is not None
    assert flat is not None
    assert (steep.forecast.decision, flat.forecast.decision) == ("more_evidence", "stop")
    assert steep.forecast.p_reach < 0.1, "the power law alone would have stopped it"


def test_sizes_without_a_score_are_left_out_of_the_forecast() -> None:
    cost = FitCost(Usage(), 1.0)
    runs = [PilotRun(0.25, 30, None, 0, cost), PilotRun(0.5, 60, None, 0, cost)]
    assert forecasts(runs, 0.8) is None


def test_tune_shows_the_model_before_and_after_on_all_samples(tmp_path: Path) -> None:
    path = learnable(tmp_path / "s")
    finished = engine.tune(path, tmp_path / "w", Overrides(diagnose=False))
    report = finished.report
    jsonschema.validate(report, SCHEMA)
    assert (finished.exit_code, report["kind"]) == (0, "tune")
    assert {(c["technique"], c["n"], c["status"]) for c in report["candidates"]} == {
        ("zero_shot", 120, "eliminated"),
        ("fine_tune", 120, "certified"),
    }
    (pair,) = report["comparisons"]
    assert abs(pair["difference"]) > 0.3
    assert report["escalation"]["decision"] == "tuned"
    assert report["escalation"]["forecast"]["decision"] == "go"
    again = engine.tune(path, tmp_path / "w", resume=report["run_id"]).report
    assert again["candidates"] == report["candidates"]


def test_tune_says_so_when_the_pilot_leaves_no_chance(tmp_path: Path) -> None:
    path = learnable(tmp_path / "s", learnable=False, goal={"target": 0.9, "margin": 0.05})
    finished = engine.tune(path, tmp_path / "w", Overrides(diagnose=False))
    assert (finished.exit_code, finished.report["escalation"]["decision"]) == (1, "stopped")


def paying(folder: Path, requests_per_month: float) -> Path:
    """Prompting meets the target with long prompts, a fine-tune would with short ones."""
    folder.mkdir(parents=True, exist_ok=True)
    model = toys.script(folder, "model", toys.rules(1.0, needs="Words of each kind"))
    long = "Sort the message. Words of each kind: " + "; ".join(f"{k}: {', '.join(v)}" for k, v in toys.WORDS.items())
    path = learnable(
        folder,
        techniques=[{"name": "zero_shot", "instruction": "plain"}],
        models=[model],
        instructions=long * 5,
        traffic={"requests_per_month": requests_per_month, "months": 12},
        fine_tune={"when": "pays", "backend": "scripted", "base": model},
    )
    toys.script(folder, "model", toys.rules(1.0, needs="Words of each kind"))
    return path


def test_a_fine_tune_that_pays_replaces_a_pick(tmp_path: Path) -> None:
    report = engine.run(paying(tmp_path / "s", 1_000_000), tmp_path / "w", Overrides(diagnose=False)).report
    jsonschema.validate(report, SCHEMA)
    assert report["escalation"]["decision"] == "tuned"
    assert report["pick"].startswith("fine_tune@")
    value = report["economics"]["net_present_value"]
    assert value["mean"] > 0
    assert value["p5"] <= value["p50"] <= value["p95"]
    assert value["assumptions"]["requests_per_month"] == 1_000_000
    assert value["against"].startswith("zero_shot(")
    assert report["economics"]["break_even_requests_per_month"] < 1_000_000
    assert any("net present value" in sentence for sentence in report["because"])


def test_a_fine_tune_that_would_not_pay_is_not_trained(tmp_path: Path) -> None:
    report = engine.run(paying(tmp_path / "s", 1), tmp_path / "w", Overrides(diagnose=False)).report
    assert report["escalation"]["decision"] == "stopped"
    assert report["pick"].startswith("zero_shot(")
    assert report["economics"]["net_present_value"]["mean"] < 0
    assert "The full training was not begun" in report["escalation"]["reason"]


def test_whether_it_pays_needs_the_traffic(tmp_path: Path) -> None:
    path = learnable(tmp_path / "s", traffic={}, fine_tune={"when": "pays", "backend": "scripted"})
    with pytest.raises(InputError, match=r"Set traffic\.requests_per_month"):
        load_scenario(path)
