"""Several fine-tunes of one scenario: each with what it won, what it forgot, and what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from advisor import engine
from advisor.outcome import Escalation, leading
from advisor.report import tuned
from advisor.report.markdown import markdown
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides
from backends.errors import InputError
from tests import toys

SCHEMA = json.loads((Path(engine.__file__).parent / "report" / "schema.json").read_text("utf-8"))
COLOURS = {"sky": "blue", "grass": "green", "coal": "black", "snow": "white"}
TWO = [{"name": "fine_tune", "recipe": {"share": 1}}, {"name": "fine_tune", "recipe": {"share": 0.02}}]
"""One that learns from all train samples, and one that learns from two of them."""


def questions(path: Path, letters: bool = False, again: int = 5) -> None:
    """A probe about colours; the answer is a choice's text or its letter."""
    choices = sorted(COLOURS.values())
    rows = [
        {
            "id": f"{thing}-{number}",
            "asked": f"The colour of {thing}, time {number}?",
            "target": "ABCD"[choices.index(colour)] if letters else colour,
            "choices": choices,
        }
        for number in range(again)
        for thing, colour in COLOURS.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def scenario(folder: Path, **changes: Any) -> Path:
    """A model that knows colours and little of the task, two probes and two fine-tunes."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = [{"when": f"colour of {thing}", "answer": colour} for thing, colour in COLOURS.items()]
    model = toys.script(folder, "model", [*facts, *toys.rules(0.3, seed=3)])
    path = toys.scenario(folder, model, n_test=40, **{"techniques": ["zero_shot", *TWO], **changes})
    questions(folder / "words.jsonl")
    questions(folder / "letters.jsonl", letters=True)
    columns = {"input": "asked"}
    probe = [
        {"file": "words.jsonl", "columns": columns},
        {"file": "letters.jsonl", "name": "exam", "columns": columns, "limit": 8},
    ]
    said = yaml.safe_load(path.read_text("utf-8"))
    said["fine_tune"] |= {"probe": probe, "pilot": False}
    path.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> engine.Finished:
    folder = tmp_path_factory.mktemp("tuned")
    return engine.compare(scenario(folder / "s"), folder / "w", Overrides(diagnose=False))


def by_share(report: Mapping[str, Any]) -> dict[float, Mapping[str, Any]]:
    return {one["tuned"]["recipe"]["share"]: one for one in report["escalation"]["tuned_candidates"]}


def test_every_tuned_candidate_has_its_own_training_gain_and_probes(compared: engine.Finished) -> None:
    report = compared.report
    jsonschema.validate(report, SCHEMA)
    found = by_share(report)
    assert set(found) == {1, 0.02}
    whole, little = found[1], found[0.02]
    assert whole["tuned"]["trained_tokens"] > 20 * little["tuned"]["trained_tokens"]
    assert whole["tuned"]["model"] != little["tuned"]["model"]
    assert whole["gain"]["difference"] > 0.5 > 0.2 > little["gain"]["difference"]
    assert [one["probe"] for one in whole["probes"]] == ["words", "exam"]
    assert [one["n"] for one in whole["probes"]] == [20, 8]
    assert all(one["before"] == 1.0 and one["after"] < 0.6 for one in whole["probes"])


def test_what_was_won_is_the_paired_difference_to_the_untrained_model(compared: engine.Finished) -> None:
    pairs = {(one["a"], one["b"]): one for one in compared.report["comparisons"]}
    for training in by_share(compared.report).values():
        won = training["gain"]
        assert (won["against"].startswith("zero_shot@"), won["n"]) == (True, 40)
        forwards, backwards = (pairs.get(pair) for pair in _both(training["candidate"], won["against"]))
        expected = forwards["difference"] if forwards else -backwards["difference"]  # type: ignore[index]
        assert won["difference"] == pytest.approx(expected)
        assert won["low"] <= won["difference"] <= won["high"]


def _both(one: str, other: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (one, other), (other, one)


def test_the_report_itself_is_about_the_pick(compared: engine.Finished) -> None:
    report = compared.report
    assert report["pick"] == by_share(report)[1]["candidate"] == report["escalation"]["candidate"]
    without = {key: value for key, value in report["escalation"].items() if key != "tuned_candidates"}
    assert without == by_share(report)[1]
    assert report["escalation"]["forgetting"] == report["escalation"]["probes"][0]


def test_another_fine_tune_is_not_what_the_model_was_before_training(compared: engine.Finished) -> None:
    for training in by_share(compared.report).values():
        assert training["tuned"]["best_before"].startswith("zero_shot@")


def test_the_untrained_model_is_probed_once(compared: engine.Finished) -> None:
    report = compared.report
    probed = {one["candidate"]: sum(probe["n"] for probe in one["probes"]) for one in by_share(report).values()}
    assert set(probed.values()) == {28}
    answered = sum(row["evaluation"]["requests"] + row["fit"]["requests"] for row in report["candidates"])
    spent = report["spent"]
    assert spent["requests"] == answered - spent["cached_requests"]
    # Both probes ask about the same colours: each model answers 20 questions, and 8 of them once more from the cache.
    assert spent["cached_requests"] >= 8 + (20 + 8) + 2 * 8


def test_every_tuned_model_has_its_own_card(compared: engine.Finished) -> None:
    adapters = compared.folder.parent.parent / "adapters"
    for training in by_share(compared.report).values():
        card = (adapters / training["tuned"]["adapter"] / "README.md").read_text("utf-8")
        assert f"share: {training['tuned']['recipe']['share']}" in card
        assert "8 questions (exam): 1.000 before" in card


def test_the_table_has_a_row_a_fine_tune_and_a_column_a_probe(compared: engine.Finished) -> None:
    head, rows = tuned.head(compared.report), tuned.rows(compared.report)
    assert head[2:5] == ("won against zero_shot", "words, before → after", "exam, before → after")
    assert [row[0] for row in rows] == [one["candidate"] for one in compared.report["escalation"]["tuned_candidates"]]
    assert all(len(row) == len(head) for row in rows)
    whole = by_share(compared.report)[1]
    row = next(row for row in rows if row[0] == whole["candidate"])
    assert row[1].startswith("1.000 (")
    assert row[1].endswith("n=40")
    assert row[3].startswith(f"1.000 → {whole['probes'][0]['after']:.3f}, −".replace("−", "-"))
    assert row[5] == "- → 1.000"
    assert f"{whole['tuned']['seconds']:.0f} s, ${whole['tuned']['cost_usd']:.4f}, " in row[6]


def test_the_table_is_in_the_text_and_on_the_page(compared: engine.Finished) -> None:
    text = (compared.folder / "report.md").read_text("utf-8")
    page = (compared.folder / "report.html").read_text("utf-8")
    for shown in (text, page):
        assert tuned.TITLE in shown
        assert "exam, before → after" in shown
    assert page.count('data-head="exam, before → after"') == 2
    assert 'id="trainings"' in page


def test_reports_from_before_there_were_several_are_still_shown(compared: engine.Finished) -> None:
    new = ("tuned_candidates", "probes", "gain", "candidate")
    old = {key: value for key, value in compared.report["escalation"].items() if key not in new}
    old["forgetting"] = {key: value for key, value in old["forgetting"].items() if key != "probe"}
    report = {**compared.report, "escalation": old}
    jsonschema.validate(report, SCHEMA)
    (row,) = tuned.rows(report)
    assert row[0] == old["tuned"]["candidate"]
    assert tuned.head(report)[2:4] == ("won against no training", "general knowledge, before → after")
    assert "| general knowledge, before → after |" in markdown(report)


def test_every_fine_tune_has_its_own_forecast(tmp_path: Path) -> None:
    path = scenario(tmp_path / "s")
    for split, n in (("train", 200), ("dev", 30)):
        lines = "".join(json.dumps(row) + "\n" for row in toys.rows(split, n))
        (path.parent / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    path.write_text(path.read_text("utf-8").replace("pilot: false", "pilot: true"), encoding="utf-8")
    report = engine.compare(path, tmp_path / "w", Overrides(diagnose=False)).report
    jsonschema.validate(report, SCHEMA)
    whole, little = report["escalation"]["tuned_candidates"]
    assert (whole["decision"], little["decision"]) == ("tuned", "stopped")
    assert [run["samples"] for run in whole["pilot"]] == [run["samples"] for run in little["pilot"]] == [50, 100]
    assert whole["forecast"]["score"] > little["forecast"]["score"]
    for training, row in zip((whole, little), tuned.rows(report), strict=True):
        assert f"{training['forecast']['score']:.3f} (" in " ".join(row)
    assert tuned.rows(report)[1][1:3] == ("stopped", "-")


def test_tune_trains_every_fine_tune_of_the_scenario(tmp_path: Path) -> None:
    path = scenario(tmp_path / "s", techniques=["zero_shot", "few_shot", *TWO])
    report = engine.tune(path, tmp_path / "w", Overrides(diagnose=False)).report
    assert set(by_share(report)) == {1, 0.02}
    assert [row["technique"] for row in report["candidates"]].count("few_shot") == 0
    (reason,) = [one["reason"] for one in report["left_out"] if one["technique"] == "few_shot"]
    assert reason == "not needed: `tune` compares the model before its training with the one after"


def test_a_run_that_tries_two_fine_tunes_reports_both(tmp_path: Path) -> None:
    """The first learns from too little and misses the target, the second meets it."""
    path = scenario(tmp_path / "s", techniques=["zero_shot", *reversed(TWO)])
    report = engine.run(path, tmp_path / "w", Overrides(diagnose=False)).report
    assert list(by_share(report)) == [0.02, 1]
    assert report["escalation"]["candidate"] == report["pick"] == by_share(report)[1]["candidate"]
    risks = [risk["text"] for risk in report["risks"] if risk["kind"] == "forgetting"]
    assert any("(words)" in text and "share=1)" in text for text in risks)
    assert any("(words)" in text and "share=0.02)" in text for text in risks)


def test_one_recipe_that_cannot_work_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from backends.errors import Problem
    from backends.scripted import ScriptedTuner

    train = ScriptedTuner.tune

    async def refuse(self: ScriptedTuner, job: Any, observe: Any = None) -> Any:
        if job.recipe["share"] != 1:
            raise InputError(Problem("train", "too little to learn from.", "Add samples."))
        return await train(self, job, observe)

    monkeypatch.setattr(ScriptedTuner, "tune", refuse)
    report = engine.compare(scenario(tmp_path / "s"), tmp_path / "w", Overrides(diagnose=False)).report
    decisions = {one["candidate"]: one["decision"] for one in report["escalation"]["tuned_candidates"]}
    assert sorted(decisions.values()) == ["failed", "tuned"]
    failed = next(one for one, decision in decisions.items() if decision == "failed")
    assert next(row for row in tuned.rows(report) if row[0] == failed)[1:4] == ("failed", "-", "-")
    assert "too little to learn from" in next(row["reason"] for row in report["candidates"] if row["id"] == failed)


@pytest.mark.parametrize(
    ("pick", "expected"), [("weak", "weak"), ("prompted", "strong"), (None, "strong")], ids=["picked", "other", "none"]
)
def test_the_leading_training_is_the_picks_else_the_best_on_dev(pick: str | None, expected: str) -> None:
    tunings = [
        Escalation("tuned", "", {"dev_score": 0.9}, candidate="strong"),
        Escalation("tuned", "", {"dev_score": 0.4}, candidate="weak"),
        Escalation("stopped", "", candidate="last"),
    ]
    found = leading(tunings, pick)
    assert found is not None
    assert found.candidate == expected
    last = leading(tunings[2:], None)
    assert last is not None
    assert last.candidate == "last"
    assert leading([], "weak") is None


def test_letters_of_choices_become_their_texts(tmp_path: Path) -> None:
    probes = load_scenario(scenario(tmp_path / "s")).probes
    assert [(one.name, len(one.samples)) for one in probes] == [("words", 20), ("exam", 8)]
    right = {f"{thing}-{number}": colour for thing, colour in COLOURS.items() for number in range(5)}
    assert all(sample.target == right[sample.id] for probe in probes for sample in probe.samples)


def test_probes_of_one_name_are_refused(tmp_path: Path) -> None:
    path = scenario(tmp_path / "s")
    (path.parent / "more").mkdir()
    questions(path.parent / "more" / "words.jsonl")
    path.write_text(path.read_text("utf-8").replace("letters.jsonl", "more/words.jsonl").replace("name: exam", ""))
    with pytest.raises(InputError, match="two probes are called 'words'"):
        load_scenario(path)


def test_a_split_can_be_used_in_part(tmp_path: Path) -> None:
    path = scenario(tmp_path / "s")
    said = yaml.safe_load(path.read_text("utf-8"))
    whole = load_scenario(path).task
    said["data"]["limit"] = {"train": 12, "dev": 6}
    path.write_text(yaml.safe_dump(said), encoding="utf-8")
    task = load_scenario(path).task
    assert (len(task.train), len(task.dev), len(task.test)) == (12, 6, len(whole.test))
    assert [sample for sample in whole.train if sample in task.train] == [*task.train]
    assert {sample.target for sample in task.train} == set(toys.LABELS)
    assert load_scenario(path, Overrides(seed=5)).task.train == task.train
