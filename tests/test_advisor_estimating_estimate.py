"""Estimates of whole scenarios: sums, unknown prices, training, judges, prompt caches."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from advisor import engine
from advisor.estimating.ahead import estimated
from advisor.estimating.pricing import Amount
from advisor.estimating.result import Estimate
from advisor.scenario.model import Overrides
from advisor.span import NONE, Span
from tests import toys

JUDGE = {"name": "judge", "rubric": "It must be right.", "model": "scripted/echo"}


def told(
    tmp_path: Path, overrides: Overrides | None = None, script: dict[str, Any] | None = None, **changes: Any
) -> Estimate:
    folder = tmp_path / "s"
    folder.mkdir(exist_ok=True)
    model = toys.script(folder, "model", toys.rules(0.9), **(script or {}))
    return estimated(toys.scenario(folder, model, **changes), overrides or Overrides())


def usd(amount: Amount) -> Span:
    assert amount.usd is not None
    return amount.usd


def test_totals_are_the_sums_of_their_candidates(tmp_path: Path) -> None:
    found = told(tmp_path)
    for kind in ("run", "compare"):
        rows = [one for one in found.candidates if kind == "run" or not one.tuned]
        assert usd(found.of(kind)).expected == pytest.approx(sum(usd(one.of(kind)).expected for one in rows))
        assert found.of(kind).requests.high == pytest.approx(sum(one.of(kind).requests.high for one in rows))


def test_early_stopping_is_cheaper_and_its_worst_case_is_a_comparison_of_all_with_the_training(tmp_path: Path) -> None:
    found = told(tmp_path)
    run, compare = usd(found.of("run")), usd(found.of("compare"))
    assert run.low < run.expected < compare.expected
    tuned = next(one for one in found.candidates if one.tuned)
    assert run.high == pytest.approx(compare.high + usd(tuned.of("run")).high)
    assert tuned.likely.low == 0
    assert 0 < tuned.likely.expected < 1


def test_a_training_that_is_wanted_always_is_in_all_sums(tmp_path: Path) -> None:
    never = told(tmp_path, fine_tune={"when": "never"})
    always = told(
        tmp_path, fine_tune={"when": "always", "backend": "scripted", "base": f"scripted/{tmp_path}/s/model.json"}
    )
    assert not any(one.tuned for one in never.candidates)
    for kind in ("run", "compare"):
        assert usd(always.of(kind)).low > usd(never.of(kind)).low


def test_an_unknown_price_makes_the_sum_unknown_and_not_zero(tmp_path: Path) -> None:
    found = told(tmp_path, script={"billed": True, "usd_per_1m_input": None}, budget={"usd": 1.0})
    assert found.of("run").usd is None
    assert found.of("run").billed_usd is None
    assert found.as_json()["run"]["usd"] is None
    assert found.of("run").requests.expected > 0
    assert not found.exceeds_budget("run")


def test_only_what_is_billed_counts_against_the_budget(tmp_path: Path) -> None:
    free = told(tmp_path, script={"usd_per_1m_input": 1e6}, budget={"usd": 0.01})
    assert usd(free.of("run")).low > 0.01
    assert free.of("run").billed_usd == NONE
    assert not free.exceeds_budget("run")
    billed = told(tmp_path, script={"usd_per_1m_input": 1e6, "billed": True}, budget={"usd": 0.01})
    assert billed.exceeds_budget("run")


def test_a_judge_is_in_the_figures_of_every_trial(tmp_path: Path) -> None:
    plain = told(tmp_path, techniques=[{"name": "zero_shot", "instruction": "plain"}])
    judged = told(tmp_path, techniques=[{"name": "zero_shot", "instruction": "plain"}], scorer=JUDGE)
    (one, *_), (other, *_) = plain.candidates, judged.candidates
    assert other.compare.test.requests.expected == pytest.approx(one.compare.test.requests.expected * (1 + 2 * 0.8))
    assert other.usd_per_1k_requests == one.usd_per_1k_requests


def test_repeats_multiply_the_test_and_leaving_out_the_diagnosis_takes_it_away(tmp_path: Path) -> None:
    one, three = told(tmp_path), told(tmp_path, Overrides(repeats=3, diagnose=False))
    for first, second in zip(one.candidates, three.candidates, strict=True):
        assert second.compare.test.requests.expected == pytest.approx(3 * first.compare.test.requests.expected)
        assert second.compare.diagnosis.requests == NONE
        assert second.run.test.requests == first.run.test.requests


def test_the_estimate_of_a_run_is_in_its_report_and_its_range_holds_the_bill(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    model = toys.script(folder, "model", toys.rules(0.9))
    path = toys.scenario(folder, model)
    finished = engine.compare(path, tmp_path / "w")
    foreseen, spent = finished.report["estimate"], finished.report["spent"]["usd"]
    assert foreseen["usd_low"] <= spent <= foreseen["usd_high"]
    assert [one["id"] for one in foreseen["candidates"]][:3] == [one["id"] for one in finished.report["candidates"]][:3]
    text = (finished.folder / "report.md").read_text("utf-8")
    assert "were estimated" in text
    assert "as estimated" in text
    assert "were estimated" in (finished.folder / "report.html").read_text("utf-8")


def test_a_local_model_that_has_not_run_here_has_no_estimate_in_its_report(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    model = toys.script(folder, "model", toys.rules(0.9), usd_per_1m_input=None)
    report = engine.run(toys.scenario(folder, model, fine_tune={"when": "never"}), tmp_path / "w").report
    assert report["estimate"] is None


def test_an_estimate_reads_as_json_and_is_the_same_for_one_seed(tmp_path: Path) -> None:
    first, second = told(tmp_path).as_json(), told(tmp_path).as_json()
    assert first == second
    assert json.loads(json.dumps(first)) == first
    assert {"run", "compare", "candidates", "assumptions"} <= set(first)
    span = first["run"]["usd"]
    assert span["low"] <= span["expected"] <= span["high"]


def test_spans_add_and_multiply_end_by_end() -> None:
    one, other = Span(1, 2, 4), Span(0, 1, 2)
    assert one + other == Span(1, 3, 6)
    assert one * other == Span(0, 2, 8)
    assert one * 0.5 == Span(0.5, 1, 2)
    assert Span.one_of([one, other]) == Span(0, 1.5, 4)
    assert one.at_most(1.5) == Span(1, 1.5, 1.5)
    assert Span.total([]) == NONE
    unknown = dataclasses.replace(Amount(), usd=None)
    assert (Amount(usd=one) + unknown).usd is None
    assert (unknown * NONE).usd == NONE


WORDY = {"usd_per_1m_input": 1.0, "usd_per_1m_output": 1.0, "billed": True}


def taught(tmp_path: Path, techniques: list[Any] | None = None, **teacher: Any) -> Estimate:
    """A fine-tune that always happens, with a teacher where something is said of it."""
    folder = tmp_path / "s"
    folder.mkdir(exist_ok=True)
    rows = [{"id": f"extra-{number}", "input": f"unlabelled message {number} about iron"} for number in range(90)]
    (folder / "extra.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = {"teacher": {"inputs": "extra.jsonl", **teacher}} if teacher else {}
    fine_tune = {"when": "always", "backend": "scripted", "base": f"scripted/{folder}/model.json", **said}
    names = techniques or ["zero_shot", {"name": "few_shot", "k": 8}, "fine_tune"]
    return told(tmp_path, script=WORDY, fine_tune=fine_tune, techniques=names)


def fitted(found: Estimate) -> list[Amount]:
    return [one.fitting for one in found.candidates if one.tuned]


def test_gold_that_is_excluded_is_not_trained_on(tmp_path: Path) -> None:
    (plain,) = fitted(taught(tmp_path))
    (beside,) = fitted(taught(tmp_path, gold="include"))
    (alone,) = fitted(taught(tmp_path, gold="exclude"))
    assert beside.requests == alone.requests
    assert plain.seconds is not None
    assert beside.seconds is not None
    assert alone.seconds is not None
    # What is learnt from: 60 gold samples, and three quarters of 90 answers.
    gold = usd(beside).expected - usd(alone).expected
    assert 0 < gold < usd(beside).expected
    assert usd(plain).low < usd(plain).expected < usd(alone).expected


def test_a_candidate_that_is_not_taught_has_no_lessons(tmp_path: Path) -> None:
    both = [
        {"name": "zero_shot", "instruction": "plain"},
        {"name": "fine_tune", "taught": False},
        {"name": "fine_tune", "taught": True},
    ]
    untaught, learner = sorted(fitted(taught(tmp_path, both, answers=2)), key=lambda one: one.requests.high)
    (plain,) = fitted(taught(tmp_path))
    assert untaught.requests == plain.requests
    assert learner.requests.expected == pytest.approx(untaught.requests.expected + 2 * 90)
    # The second to be taught hears what the first has heard.
    several = [*both, {"name": "fine_tune", "taught": True, "instruction": "full"}]
    sums = sorted(one.requests.high for one in fitted(taught(tmp_path, several, answers=2)))
    assert sums == [untaught.requests.high, untaught.requests.high, learner.requests.high]


def test_the_named_teacher_is_who_is_asked(tmp_path: Path) -> None:
    (short,) = fitted(taught(tmp_path, candidate="zero_shot"))
    (long,) = fitted(taught(tmp_path, candidate={"name": "few_shot", "k": 8}))
    (any_of_both,) = fitted(taught(tmp_path, answers=3))
    assert short.input_tokens.expected < any_of_both.input_tokens.expected < long.input_tokens.expected


def test_a_teachers_cap_bounds_what_it_is_asked_and_what_is_learnt(tmp_path: Path) -> None:
    (free,) = fitted(taught(tmp_path, answers=3, gold="exclude"))
    (general,) = fitted(taught(tmp_path, answers=3, gold="exclude", usd=0.0))
    asked = usd(free).high - usd(general).high
    cap = asked / 10
    (capped,) = fitted(taught(tmp_path, answers=3, gold="exclude", usd=cap))
    assert capped.billed_usd is not None
    assert general.billed_usd is not None
    assert capped.billed_usd.high - general.billed_usd.high == pytest.approx(cap)
    assert general.requests.high < capped.requests.high < free.requests.high
    assert general.input_tokens.expected < capped.input_tokens.expected < free.input_tokens.expected


def test_the_look_at_a_tuned_models_mistakes_is_in_the_figures(tmp_path: Path) -> None:
    always = {"when": "always", "backend": "scripted", "base": f"scripted/{tmp_path}/s/model.json", "pilot": False}
    folder = tmp_path / "s"
    model = toys.script(folder, "model", toys.rules(0.9)) if folder.mkdir() is None else ""
    path = toys.scenario(folder, model, fine_tune=always)
    (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toys.rows("dev", 260)), "utf-8")

    def tuned(overrides: Overrides) -> Any:
        (one,) = [one for one in estimated(path, overrides).candidates if one.tuned]
        return one

    looked, blind, onward = (
        tuned(overrides)
        for overrides in (Overrides(), Overrides(diagnose=False), Overrides(continues="r", start="base"))
    )
    # 200 dev samples of which 50 are answered before.
    assert looked.run.aftermath.requests.low == 150
    assert 150 < looked.run.aftermath.requests.high <= 150 + 200 + 60
    assert blind.run.aftermath.requests == NONE
    former = onward.compare.aftermath.requests.expected - looked.compare.aftermath.requests.expected
    assert former == pytest.approx(onward.compare.samples.expected)
    assert not any(one.run.aftermath.requests.high for one in estimated(path, Overrides()).candidates if not one.tuned)


def test_batches_are_counted_at_their_price_and_production_at_the_single_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "s"
    changes: dict[str, Any] = {"techniques": ["zero_shot", "few_shot"], "fine_tune": {"when": "never"}}
    path = toys.scenario(folder, "openai/gpt-4.1-mini", **changes)
    single, batched = estimated(path, Overrides()), estimated(path, Overrides(batch=True))
    assert usd(batched.of("run")).expected == pytest.approx(usd(single.of("run")).expected / 2)
    assert batched.of("run").billed_usd == batched.of("run").usd
    assert batched.for_report("compare")["usd"] == pytest.approx(single.for_report("compare")["usd"] / 2)
    for one, other in zip(single.candidates, batched.candidates, strict=True):
        assert one.usd_per_1k_requests == other.usd_per_1k_requests


def test_several_draws_read_their_prompt_once_where_an_endpoint_takes_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    changes: dict[str, Any] = {"techniques": [{"name": "self_consistency", "n": 5}], "fine_tune": {"when": "never"}}
    path = toys.scenario(tmp_path / "s", "openai/gpt-4.1-mini", **changes)
    (together,) = estimated(path, Overrides()).candidates
    (apart,) = estimated(path, Overrides(batch=True)).candidates
    assert together.serving.requests == Span(1, 1, 5)
    assert apart.serving.requests == Span.exactly(5)
    assert together.serving.input_tokens.expected == pytest.approx(apart.serving.input_tokens.expected / 5)
    assert together.serving.output_tokens == apart.serving.output_tokens
