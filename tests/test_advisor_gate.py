"""The gate: what it catches and lets pass, as a pure decision and from end to end; and the mark of `--fail-under`."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from rich.console import Console

from advisor import engine
from advisor.cli.gate import exit_code_under, show_gate
from advisor.gate import Baseline, baseline, gate, junit
from advisor.regression import Rule, check_rule, decide, explain, fail_under
from advisor.scenario.model import Overrides
from backends.errors import InputError
from backends.scripted import ScriptedChat
from evals.store import Store
from tests import toys

N = 300


def passes(rng: np.random.Generator, chance: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One pass over samples that are answered rightly with these chances."""
    return (rng.random(len(chance)) < chance).astype(float)


def failures(runs: int, rule: Rule, broken: float, unsteady: float, n: int = N) -> float:
    """Share of gates that close when a share of the inputs is answered wrongly from now on.

    Mean score 0.8 before; `unsteady` is the share of answers that differ between two passes with nothing changed.
    """
    rng = np.random.default_rng(7)
    size = 0.32 / unsteady - 1.0  # beta(0.8 size, 0.2 size) differs between two draws in 0.32 size / (size + 1)
    size = 1.0 / size if unsteady < 0.32 else 1e9
    closed = 0
    for _ in range(runs):
        chance = rng.beta(0.8 * size, 0.2 * size, n)
        before = passes(rng, chance)
        chance[rng.random(n) < broken] = 0.0
        closed += not decide(before, passes(rng, chance), rule).passed
    return closed / runs


# -- the decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unsteady", [0.02, 0.1, 0.32])
def test_unchanged_reruns_pass_in_at_least_95_of_100(unsteady: float) -> None:
    assert failures(1000, Rule(), 0.0, unsteady) <= 0.05 + 0.01


def test_unchanged_reruns_that_answer_alike_always_pass() -> None:
    scores = np.array([1.0] * 240 + [0.0] * 60)
    decision = decide(scores, scores, Rule())
    assert decision.passed
    assert decision.difference == 0.0
    assert decision.p_worse == 0.5


@pytest.mark.parametrize(("unsteady", "caught"), [(0.02, 0.99), (0.1, 0.93), (0.2, 0.8)])
def test_a_drop_of_eight_points_on_300_samples_is_caught(unsteady: float, caught: float) -> None:
    assert failures(400, Rule(), 0.1, unsteady) >= caught  # a tenth of 0.8 is eight points


def test_a_drop_of_eight_points_in_the_answers_themselves_is_caught() -> None:
    before = np.array([1.0] * 246 + [0.0] * 54)
    now = before.copy()
    now[:24] = 0.0
    decision = decide(before, now, Rule())
    assert not decision.passed
    assert decision.difference == pytest.approx(-0.08)
    assert decision.high < 0
    assert decision.p_worse == pytest.approx(2.0**-24)


def test_a_gain_passes_however_large() -> None:
    decision = decide(np.zeros(50), np.ones(50), Rule())
    assert decision.passed
    assert decision.p_worse > 0.99


def test_a_margin_puts_up_with_a_drop_and_a_larger_one_still_fails() -> None:
    before = np.array([1.0] * 246 + [0.0] * 54)
    now = before.copy()
    now[:12] = 0.0
    assert not decide(before, now, Rule()).passed
    assert decide(before, now, Rule(margin=0.05)).passed
    now[:45] = 0.0
    assert not decide(before, now, Rule(margin=0.05)).passed


def test_with_a_margin_unchanged_reruns_pass_nearly_always() -> None:
    assert failures(500, Rule(margin=0.02), 0.0, 0.1) <= 0.01


def test_graded_scores_that_only_vary_pass_in_about_95_of_100() -> None:
    rng = np.random.default_rng(3)
    closed = 0
    for _ in range(300):
        base = rng.random(40)
        before, now = (np.clip(base + rng.normal(0, 0.1, 40), 0, 1) for _ in range(2))
        closed += not decide(before, now, Rule(), seed=1).passed
    assert closed / 300 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)


def test_clusters_count_as_one() -> None:
    before = np.array([1.0] * 40)
    now = np.array([0.0] * 20 + [1.0] * 20)
    alone = decide(before, now, Rule())
    together = decide(before, now, Rule(), groups=["a"] * 20 + ["b"] * 20)
    assert not alone.passed
    assert together.passed, "one cluster of two is no proof"


def test_samples_without_an_answer_are_left_out_on_both_sides() -> None:
    before, now = np.array([1.0, np.nan, 0.0, 1.0]), np.array([1.0, 0.0, np.nan, 0.0])
    decision = decide(before, now, Rule())
    assert decision.n == 2
    assert (decision.before, decision.now) == (1.0, 0.5)
    nothing = decide(np.array([np.nan]), np.array([1.0]), Rule())
    assert nothing.passed
    assert math.isnan(nothing.before)


def test_the_sentence_says_what_was_measured_and_what_could_have_been_missed() -> None:
    before = np.array([1.0] * 246 + [0.0] * 54)
    now = before.copy()
    now[:24] = 0.0
    told = explain(decide(before, now, Rule()), "zero_shot@m")
    assert "zero_shot@m scored 0.820 before and scores 0.740 now on the same 300 samples: -8.0 points" in told
    assert "worse than before" in told
    told = explain(decide(before, before, Rule()), "zero_shot@m")
    assert "No drop is proved; one of" in told
    assert "8 of 10" in told
    few = explain(decide(np.ones(1), np.zeros(1), Rule()), "x")
    assert "No drop is proved" in few


def test_the_drop_that_is_named_as_visible_is_seen_about_so_often() -> None:
    rng = np.random.default_rng(11)
    named = []
    for _ in range(50):
        chance = rng.beta(0.8, 0.2, N)
        named.append(decide(passes(rng, chance), passes(rng, chance), Rule()).visible or 1.0)
    assert 0.75 <= failures(600, Rule(), float(np.mean(named)) / 0.8, 0.16) <= 0.9


@pytest.mark.parametrize("rule", [Rule(margin=-0.1), Rule(margin=1.0), Rule(alpha=0.0), Rule(alpha=0.5)])
def test_rules_that_cannot_be_kept_are_refused(rule: Rule) -> None:
    with pytest.raises(InputError):
        check_rule(rule)


# -- the mark ---------------------------------------------------------------------------------------------------------


def comparison(*rows: tuple[str, float | None, str]) -> dict[str, Any]:
    return {
        "candidates": [
            {"id": name, "mean_score": mean, "status": status, "n": 100, "score": {"low": 0.7, "high": 0.9}}
            for name, mean, status in rows
        ]
    }


def test_the_best_measured_score_decides_about_the_mark() -> None:
    report = comparison(("a", 0.78, "eliminated"), ("b", 0.81, "unresolved"))
    assert fail_under(report, 0.8).passed
    failed = fail_under(report, 0.82)
    assert not failed.passed
    assert "b scores 0.810 (0.700 to 0.900) on 100 samples" in failed.sentence


def test_a_candidate_that_failed_does_not_hold_the_mark() -> None:
    assert not fail_under(comparison(("a", 0.99, "failed"), ("b", None, "skipped")), 0.5).passed


def test_a_mark_in_percent_is_told_how_to_be_written() -> None:
    with pytest.raises(InputError, match=r"Write 0\.8"):
        fail_under(comparison(), 80)


def test_the_exit_code_is_1_only_where_a_finished_comparison_is_below_the_mark() -> None:
    report = comparison(("a", 0.78, "eliminated"))
    console = Console(file=io.StringIO())
    assert exit_code_under(console, report, None, 0) == 0
    assert exit_code_under(console, report, 0.7, 0) == 0
    assert exit_code_under(console, report, 0.8, 0) == 1
    assert exit_code_under(console, report, 0.8, 3) == 3


# -- from end to end --------------------------------------------------------------------------------------------------


def compared(folder: Path, right: float = 0.85, n_test: int = 60, **changes: Any) -> tuple[Path, Path, str]:
    """A scenario, a workspace with one comparison of it, and the run's id."""
    folder.mkdir(parents=True, exist_ok=True)
    model = toys.script(folder, "model", toys.rules(right))
    changes = {"techniques": ["zero_shot"], "fine_tune": {"when": "never"}} | changes
    path = toys.scenario(folder / "s", model, n_test=n_test, **changes)
    finished = engine.compare(path, folder / "w", Overrides(diagnose=False))
    return path, folder / "w", str(finished.report["run_id"])


def found(path: Path, workspace: Path, run: str, **more: Any) -> Baseline:
    name = yaml.safe_load(path.read_text("utf-8"))["models"][0]
    return baseline(path, run, workspace, **{"candidate": f"zero_shot@{name}", **more})


def test_an_unchanged_candidate_passes_and_is_asked_afresh(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path)
    gated = gate(found(path, workspace, run), workspace)
    assert gated.passed
    assert gated.exit_code == 0
    assert gated.report["difference"] == 0.0
    assert gated.report["n"] == 60
    with Store.open(workspace / "advisor.db") as store:
        trials = store.trials(gated.report["run_id"])
        assert len(trials) == 60
        assert sum(trial.cached_requests for trial in trials) == 0, "nothing may come from the cache"
        row = store.run(gated.report["run_id"])
        assert (row.status, row.verdict) == ("done", "not worse")


def test_a_second_gate_is_asked_afresh_too(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path, n_test=30)
    first, second = (gate(found(path, workspace, run), workspace) for _ in range(2))
    with Store.open(workspace / "advisor.db") as store:
        assert sum(trial.cached_requests for trial in store.trials(second.report["run_id"])) == 0
    assert first.report["run_id"] != second.report["run_id"]


def test_a_planted_regression_of_eight_points_closes_the_gate(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path, n_test=N)
    broken = {"when": r"message (1?[0-9]|2[0-6]) about", "answer": "none"}
    toys.script(tmp_path, "model", [broken, *toys.rules(0.85)])
    gated = gate(found(path, workspace, run), workspace)
    assert -0.09 < gated.report["difference"] < -0.07, "about eight points"
    assert not gated.passed
    assert gated.exit_code == 1
    assert gated.report["high"] < 0


def test_a_model_that_changes_behind_its_name_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedChat, "fingerprint", property(lambda self: "always the same"))
    path, workspace, run = compared(tmp_path)
    toys.script(tmp_path, "model", toys.rules(0.6, seed=1))
    assert not gate(found(path, workspace, run), workspace).passed


def test_changed_instructions_are_what_is_tested(tmp_path: Path) -> None:
    folder = tmp_path
    needs = toys.rules(0.9, needs="Sort the message")
    model = toys.script(folder, "model", needs)
    path = toys.scenario(folder / "s", model, techniques=["zero_shot"], fine_tune={"when": "never"}, n_test=30)
    run = engine.compare(path, folder / "w", Overrides(diagnose=False)).report["run_id"]
    path.write_text(path.read_text("utf-8").replace("Sort the message.", "Do as you like."), encoding="utf-8")
    gated = gate(found(path, folder / "w", run), folder / "w")
    assert not gated.passed
    assert gated.report["now"] == 0.0


def test_the_pick_of_the_run_is_gated_where_no_candidate_is_named(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path, right=0.95)
    assert baseline(path, run, workspace).candidate.id.startswith("zero_shot@")


def test_last_is_the_newest_finished_comparison_and_never_a_gate(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path, n_test=30)
    gate(found(path, workspace, run), workspace)
    assert found(path, workspace, "last").run.id == run


def test_repetitions_and_the_fresh_look_belong_to_the_former_scores(tmp_path: Path) -> None:
    model = toys.script(tmp_path, "model", toys.rules(0.95))
    path = toys.scenario(tmp_path / "s", model, techniques=["zero_shot"], fine_tune={"when": "never"}, n_test=200)
    report = engine.run(path, tmp_path / "w", Overrides(diagnose=False)).report
    climbed = report["candidates"][0]["n"]
    assert climbed < 150
    scores = baseline(path, report["run_id"], tmp_path / "w").scores
    assert len(scores) > climbed, "the fresh look adds samples"


def test_a_tuned_candidate_is_tested_as_it_was_tuned(tmp_path: Path) -> None:
    model = toys.script(tmp_path, "model", toys.rules(0.4, seed=3))
    path = toys.scenario(tmp_path / "s", model, techniques=["zero_shot"])
    report = engine.run(path, tmp_path / "w", Overrides(diagnose=False)).report
    assert report["pick"].startswith("fine_tune")
    gated = gate(baseline(path, report["run_id"], tmp_path / "w"), tmp_path / "w")
    assert gated.passed
    assert gated.report["candidate"] == report["pick"]
    assert gated.report["difference"] == 0.0


def test_requests_that_begin_to_fail_close_the_gate_by_their_number(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path, n_test=60)
    rules = [{"when": r"message \d*[05] about", "error": "overloaded"}, *toys.rules(0.85)]
    toys.script(tmp_path, "model", rules)
    gated = gate(found(path, workspace, run), workspace)
    assert not gated.passed
    assert gated.report["errors"]["now"] == 12
    assert gated.report["difference"] == 0.0
    assert gated.sentence.startswith("12 of 60 requests failed, 0 did before")


def test_a_gate_leaves_a_report_for_people_and_one_for_ci(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path, n_test=30)
    toys.script(tmp_path, "model", [{"when": "", "answer": "none"}])
    out = io.StringIO()
    gated = show_gate(Console(file=out, width=80), found(path, workspace, run), workspace, Rule(), quiet=False)
    assert json.loads((gated.folder / "gate.json").read_text("utf-8")) == gated.report
    suite = ElementTree.fromstring((gated.folder / "junit.xml").read_text("utf-8"))
    assert suite.get("failures") == "1"
    case = suite.find("testsuite/testcase")
    assert case is not None
    assert case.get("classname") == "toy"
    assert "worse than before" in str(case.find("failure").get("message"))  # type: ignore[union-attr]
    assert "FAILED: zero_shot@" in out.getvalue()


def test_a_gate_that_opened_is_a_test_without_a_failure() -> None:
    report = {"passed": True, "scenario": "s", "candidate": "a<b", "sentence": "fine & well"}
    suite = ElementTree.fromstring(junit(report, 1.5))
    assert suite.get("failures") == "0"
    assert suite.find("testsuite/testcase/failure") is None


# -- bad input --------------------------------------------------------------------------------------------------------


def test_other_data_or_another_scorer_cannot_be_compared(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path, n_test=30)
    test = path.parent / "test.jsonl"
    kept = test.read_text("utf-8")
    test.write_text(kept.replace('"target": "fruit"', '"target": "metal"', 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"test\.jsonl changed since run"):
        found(path, workspace, run)
    test.write_text(kept, encoding="utf-8")
    path.write_text(path.read_text("utf-8").replace("scorer: exact", "scorer: includes"), encoding="utf-8")
    with pytest.raises(InputError, match="scorer changed since run"):
        found(path, workspace, run)


def test_what_is_not_there_is_told_with_what_there_is(tmp_path: Path) -> None:
    path, workspace, run = compared(tmp_path, right=0.5, n_test=30)
    with pytest.raises(InputError, match="no workspace"):
        baseline(path, run, tmp_path / "nowhere")
    with pytest.raises(InputError, match="there is no run"):
        baseline(path, "x", workspace)
    with pytest.raises(InputError, match="picked no candidate"):
        baseline(path, run, workspace)
    with pytest.raises(InputError, match="no candidate 'y'"):
        baseline(path, run, workspace, candidate="y")
    path.write_text(path.read_text("utf-8").replace("name: toy", "name: other"), encoding="utf-8")
    with pytest.raises(InputError, match="no finished run of other"):
        baseline(path, "last", workspace)


def test_models_that_cost_money_are_named_before_they_are_asked(tmp_path: Path) -> None:
    model = toys.script(tmp_path, "model", toys.rules(0.9), billed=True)
    path = toys.scenario(tmp_path / "s", model, techniques=["zero_shot"], fine_tune={"when": "never"}, n_test=30)
    run = engine.compare(path, tmp_path / "w", Overrides(diagnose=False)).report["run_id"]
    assert found(path, tmp_path / "w", run).billed == [model]


def test_an_embedder_that_costs_money_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toys.script(tmp_path, "model", toys.rules(0.9))
    path = toys.scenario(tmp_path / "s", model, techniques=["knn_few_shot"], fine_tune={"when": "never"}, n_test=30)
    run = engine.compare(path, tmp_path / "w", Overrides(diagnose=False)).report["run_id"]
    assert found(path, tmp_path / "w", run, candidate=f"knn_few_shot@{model}").billed == []
    monkeypatch.setattr("backends.scripted.ScriptedEmbedder.billed", True)
    assert found(path, tmp_path / "w", run, candidate=f"knn_few_shot@{model}").billed == ["scripted/words"]


def test_a_gate_sends_no_batches_though_the_run_did(tmp_path: Path) -> None:
    model = toys.script(tmp_path, "model", toys.rules(0.9))
    path = toys.scenario(tmp_path / "s", model, techniques=["zero_shot"], fine_tune={"when": "never"}, n_test=30)
    run = engine.compare(path, tmp_path / "w", Overrides(diagnose=False, batch=True)).report["run_id"]
    assert not found(path, tmp_path / "w", run).overrides.batch


# -- the page about it ------------------------------------------------------------------------------------------------


def test_the_workflow_on_the_page_is_yaml_with_both_commands() -> None:
    page = (Path(__file__).parent.parent / "docs" / "ci.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    steps = yaml.safe_load(block)["jobs"]["quality"]["steps"]
    commands = " ".join(step.get("run", "") for step in steps)
    assert "--fail-under" in commands
    assert "advisor gate" in commands


def test_the_table_on_the_page_is_what_the_simulation_gives() -> None:
    page = (Path(__file__).parent.parent / "docs" / "ci.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\d.]+) %.*?\| ([\d.]+) % \| ([\d.]+) % \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for unsteady, wrongly, caught in rows[1:4]:
        told = float(wrongly) / 100, float(caught) / 100
        found = failures(400, Rule(), 0.0, float(unsteady) / 100), failures(400, Rule(), 0.1, float(unsteady) / 100)
        assert found == pytest.approx(told, abs=0.04)
