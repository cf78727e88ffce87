"""The recommendation in words: every number in it is the report's, dates are told, and what would change it is said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from advisor import engine
from advisor.report.markdown import markdown
from advisor.scenario.model import Overrides
from tests import toys

_NUMBER = re.compile(r"(?<![\w.,])[-+]?\$?-?(\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)(?![\w])(\s*(?:%|points))?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_CONSTANTS = re.compile(
    r"per 1,000|in (8|9) of 10 runs|\(5 to 95 %|of 1,000 requests|a 90 % interval|per 1M tokens|\$ per 1,000"
)
"""Phrases whose numbers are part of the wording, not of what was found."""


def numbers(found: Any) -> Iterator[float]:
    """Every number of a JSON value."""
    if isinstance(found, Mapping):
        for value in found.values():
            yield from numbers(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from numbers(value)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield float(found)


def facts(report: Mapping[str, Any]) -> list[float]:
    """The report's numbers, with the few that sentences and tables work out from them in the open."""
    goal = report["goal"]
    known = [*numbers(report), goal["target"] + goal["margin"]]
    known += [one["fit"]["requests"] + one["evaluation"]["requests"] for one in report["candidates"]]
    known.append(sum(one["errors"] for one in report["candidates"]))
    known.append(report["scenario"]["n_train"] + report["scenario"]["n_dev"])
    # Why a candidate stands as it does is a field of the report itself.
    reasons = [float(text) for one in report["candidates"] for text in re.findall(r"\d+\.?\d*", one["reason"])]
    return [*known, *reasons, *(number / 100 for number in reasons)]


def unfounded(text: str, report: Mapping[str, Any]) -> list[str]:
    """Numbers of a text that are none of the report's, rounded as they are written."""
    text = re.sub(r"--workspace \S+", " ", text)
    for name in names(report):
        text = text.replace(name, " ")
    dates = {risk["date"] for risk in report["risks"]} | {report["created"][:10]}
    wrong = [day for day in _DATE.findall(text) if day not in dates]
    text = re.sub(r"% \((\d+)-(\d+)\)", r"% \1 % \2 %", text)
    known = facts(report)
    for match in _NUMBER.finditer(_CONSTANTS.sub(" ", _DATE.sub(" ", text))):
        written, scale = match[1].replace(",", ""), 100.0 if match[2] else 1.0
        mantissa, _, power = written.partition("e")
        unit = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
        if not any(abs(abs(scale * one) - float(written)) <= 0.5 * unit * (1 + 1e-6) for one in known):
            wrong.append(match[0])
    return wrong


def names(report: Mapping[str, Any]) -> list[str]:
    """Texts that hold digits without being figures: ids, paths, what samples say; longest first."""
    found = {report["run_id"], report["scenario"]["name"], str(Path(report["scenario"]["file"]).parent)}
    for one in report["candidates"]:
        found |= {one["id"], one["model"], one["id"].removesuffix(f"@{one['model']}")}
        for cause in one["diagnosis"]:
            found |= {cause["evidence"]} | {str(e[k]) for e in cause["examples"] for k in ("sample_id", "input")}
    escalation = report["escalation"] or {}
    found |= {one["tuned"]["model"] for one in escalation.get("tuned_candidates", []) if one["tuned"]}
    return sorted((name for name in found if name), key=len, reverse=True)


def sentences(report: Mapping[str, Any]) -> list[str]:
    texts = [*report["because"], *report["would_change"], *report["next_steps"]]
    return texts + [risk["text"] for risk in report["risks"]]


def retiring(folder: Path, right: float, **settings: Any) -> str:
    """A model that is to be shut down."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = {"shutdown": "2031-01-14", "training_ends": "2031-01-06", "replacement": "successor"}
    return toys.script(folder, "model", toys.rules(right, needs="worked example"), **ends, **settings)


def learnable(folder: Path, **changes: Any) -> Path:
    """Prompting meets the target with a long prompt, a fine-tune would with a short one, and there is a pilot."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = {"shutdown": "2031-01-14", "training_ends": "2031-01-06", "replacement": "successor"}
    model = toys.script(folder, "model", toys.rules(1.0, needs="Words of each kind"), **ends)
    kinds = "; ".join(f"{kind}: {', '.join(words)}" for kind, words in toys.WORDS.items())
    path = toys.scenario(
        folder,
        model,
        techniques=[{"name": "zero_shot", "instruction": "plain"}],
        instructions=f"Sort the message. Words of each kind: {kinds}" * 5,
        fine_tune={"when": "pays", "backend": "scripted", "base": model},
        **changes,
    )
    for split, n in (("train", 200), ("dev", 30)):
        rows = "".join(json.dumps(row) + "\n" for row in toys.rows(split, n))
        (folder / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Reports of runs that end in every way."""
    root = tmp_path_factory.mktemp("recommend")
    never = {"fine_tune": {"when": "never"}}
    traffic = {"requests_per_month": 20_000, "usd_per_error": 0.05}
    paths = {
        "pick": toys.scenario(root / "pick", retiring(root / "pick", 0.95), traffic=traffic),
        "none": toys.scenario(root / "none", retiring(root / "none", 0.3), n_test=60, **never),
        "undecided": toys.scenario(
            root / "undecided", retiring(root / "undecided", 0.8), n_test=60, goal={"target": 0.78}, **never
        ),
        "unpriced": toys.scenario(root / "unpriced", retiring(root / "unpriced", 0.95, usd_per_1m_input=None)),
        "pays": learnable(root / "pays", traffic={"requests_per_month": 1_000_000}),
        "stays": learnable(root / "stays", traffic={"requests_per_month": 1}, economics={"usd_per_label": 0.5}),
    }
    found = {}
    for name, path in paths.items():
        techniques = ("zero_shot", "few_shot") if name not in {"pays", "stays"} else None
        kept = Overrides(techniques=techniques, diagnose=name == "none")
        found[name] = dict(engine.run(path, root / "w", kept).report)
    return found


@pytest.mark.parametrize("name", ["pick", "none", "undecided", "unpriced", "pays", "stays"])
def test_every_number_in_the_words_is_the_reports(reports: dict[str, dict[str, Any]], name: str) -> None:
    report = reports[name]
    assert {text: wrong for text in sentences(report) if (wrong := unfounded(text, report))} == {}
    plain = markdown(report).replace("\\", "").partition("## Failures to look at")
    told = plain[0] + plain[2].partition("## What finding out cost")[2]
    assert {line: wrong for line in told.splitlines() if (wrong := unfounded(line, report))} == {}


def test_the_check_of_numbers_can_fail(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["pick"]
    low = report["candidates"][1]["score"]["low"]
    assert unfounded(f"certified with {low:.2f} at least", report) == []
    assert unfounded(f"certified with {low + 0.02:.2f} at least, $123.45 a month", report) != []
    assert unfounded("shut down on 2030-12-24", report) == ["2030-12-24"]


def test_a_model_that_is_shut_down_is_a_risk_with_its_date(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["pick"]
    (risk,) = [risk for risk in report["risks"] if risk["kind"] == "shutdown"]
    assert risk["date"] == "2031-01-14"
    assert "2031-01-14" in risk["text"]
    assert f"{risk['days']} days after this run" in risk["text"]
    assert "The pick rests on it." in risk["text"]
    assert any("before 2031-01-14: advisor compare" in step and "successor" in step for step in report["next_steps"])
    assert report["risks"][1]["kind"] == "training_ends"


def test_what_would_change_the_advice_is_said(reports: dict[str, dict[str, Any]]) -> None:
    assert any("For targets up to" in one for one in reports["pick"]["would_change"])
    volume = reports["stays"]["economics"]["break_even_requests_per_month"]
    assert any(f"From {volume:,.0f} requests a month on" in one for one in reports["stays"]["would_change"])
    assert reports["stays"]["pick"].startswith("zero_shot(")
    volume = reports["pays"]["economics"]["break_even_requests_per_month"]
    assert any(f"Below {volume:,.0f} requests a month" in one for one in reports["pays"]["would_change"])


def test_the_target_that_would_be_met_is_said(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "m", toys.rules(0.93))
    goal, never = {"target": 0.9, "margin": 0.05}, {"when": "never"}
    path = toys.scenario(tmp_path / "s", model, goal=goal, fine_tune=never)
    report = engine.run(path, tmp_path / "w", Overrides(techniques=("zero_shot",), diagnose=False)).report
    low = report["candidates"][0]["score"]["low"]
    assert f"With a target of {100 * low:.3g} % or less, zero_shot" in report["would_change"][0]


def test_a_target_far_below_the_one_asked_for_is_no_advice(reports: dict[str, dict[str, Any]]) -> None:
    highest = max(one["score"]["low"] for one in reports["none"]["candidates"])
    assert 0 < highest < 0.35, "half of what is asked for"
    assert not any("With a target of" in one for one in reports["none"]["would_change"])


def test_the_commands_of_the_next_steps_exist(reports: dict[str, dict[str, Any]]) -> None:
    from advisor.cli.app import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    steps = [step for report in reports.values() for step in report["next_steps"]]
    commands = {word for step in steps for word in re.findall(r"advisor ([a-z]+) ", f"{step} ")}
    assert {"serve", "gate", "compare"} <= commands <= known


def test_assumptions_name_their_source_and_the_key_that_sets_them(reports: dict[str, dict[str, Any]]) -> None:
    found = {one["name"]: one for one in reports["stays"]["economics"]["assumptions"]}
    assert found["volume"] | {"note": ""} == {
        "name": "volume",
        "value": 1,
        "unit": "requests a month",
        "source": "scenario",
        "key": "traffic.requests_per_month",
        "note": "",
    }
    assert found["labels"]["value"] == pytest.approx(230 * 0.5)
    assert found["labels"]["source"] == "scenario"
    assert found["horizon"]["source"] == "default"
    assert found["training"]["source"] == found["success"]["source"] == "forecast"
    assert {one["source"] for one in reports["pays"]["economics"]["assumptions"]} >= {"measured", "default", "scenario"}


def test_wrong_answers_cost_what_the_scenario_says(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["pick"]
    picked = next(one for one in report["candidates"] if one["id"] == report["pick"])
    wanted = (1 - picked["mean_score"]) * 0.05 * 20_000
    assert report["economics"]["monthly_errors_usd"][report["pick"]] == pytest.approx(wanted)
    assert set(reports["none"]["economics"]["monthly_errors_usd"].values()) == {None}


def test_what_has_no_price_has_no_bill(reports: dict[str, dict[str, Any]]) -> None:
    report = reports["unpriced"]
    assert set(report["economics"]["monthly_usd"].values()) == {None}
    assert any(risk["kind"] == "unknown_price" for risk in report["risks"])


def test_what_was_left_out_by_an_option_is_not_laid_to_the_scenario(
    reports: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    narrowed = {one["technique"]: one["reason"] for one in reports["pick"]["left_out"]}
    assert "zero_shot" not in narrowed
    assert narrowed["knn_few_shot"] == "not asked for in this run: --techniques names others"
    path = toys.scenario(
        tmp_path / "s", retiring(tmp_path / "s", 0.95), techniques=["zero_shot"], fine_tune={"when": "never"}
    )
    said = {one["technique"]: one["reason"] for one in engine.run(path, tmp_path / "w").report["left_out"]}
    assert said["knn_few_shot"] == "not among the scenario's techniques"


def test_what_an_example_of_a_failure_shows_is_explained(reports: dict[str, dict[str, Any]]) -> None:
    (row, *_) = reports["none"]["candidates"]
    example = {"sample_id": "t1", "input": "a", "target": "billing", "answer": "technical", "gave": "technical"}
    seen = {
        "skill": "right is “billing”; asked another way, it answered “technical”",
        "errors": "right is “billing”; the error is “technical”",
        "format": "right is “billing”; read without its form, it says “technical”",
    }
    for cause, told in seen.items():
        found = {"cause": cause, "share": 1.0, "low": 0.5, "high": 1.0, "points_to": [], "evidence": "e"}
        one = row | {"diagnosis": [found | {"examples": [example, example | {"gave": ""}]}]}
        lines = markdown(reports["none"] | {"candidates": [one]}).splitlines()
        first, second = (line for line in lines if "t1: “a” answered “technical”" in line)
        assert first.endswith(told)
        assert second.endswith("right is “billing”")
