"""The engine on the scripted backend: climbing, escalating, resuming, and saying the same thing twice."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advisor import engine
from advisor.events import Evaluated, Event, Tuning
from advisor.scenario.model import Overrides
from backends.errors import InputError
from evals.splits import shared_order
from evals.task import Sample
from tests import toys

SCHEMA = json.loads((Path(engine.__file__).parent / "report" / "schema.json").read_text("utf-8"))
TIMES_AND_IDS = {"run_id", "created", "next_steps"}


class Killed(BaseException):
    """Stands for a process that dies: not an Exception, so nothing handles it."""


def kill_after(events: int, kind: type[Event]) -> engine.Observer:
    seen = 0

    def observe(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, kind)
        if seen >= events:
            raise Killed

    return observe


def statuses(report: Mapping[str, Any]) -> dict[str, str]:
    return {candidate["technique"]: candidate["status"] for candidate in report["candidates"]}


def comparable(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without what may differ between two runs of one seed: times, ids and what came from the cache."""
    kept = {key: value for key, value in report.items() if key not in TIMES_AND_IDS}
    return json.loads(json.dumps(kept | {"spent": {**report["spent"], "seconds": None}}))


def weak_and_strong(folder: Path) -> str:
    """Zero-shot fails; any prompt with demonstrations is right 95 % of the time."""
    folder.mkdir(parents=True, exist_ok=True)
    return toys.script(folder, "model", toys.rules(0.95, needs="worked example"))


def hopeless(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return toys.script(folder, "model", toys.rules(0.4, seed=3))


def test_the_cheapest_candidate_that_meets_the_target_is_picked(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", weak_and_strong(tmp_path / "s"))
    finished = engine.run(path, tmp_path / "w")
    report = finished.report
    assert finished.exit_code == 0
    assert report["verdict"] == "pick"
    picked = next(c for c in report["candidates"] if c["id"] == report["pick"])
    assert picked["status"] == "certified"
    assert picked["score"]["low"] <= 0.95 <= picked["score"]["high"]
    assert statuses(report)["zero_shot"] == "eliminated"
    assert set(statuses(report).values()) == {"eliminated", "certified", "not_needed"}
    assert statuses(report)["fine_tune"] == "not_needed"
    assert "meets 70 %" in report["because"][0]
    assert picked["n"] < 120, "a clear winner must not need every sample"


def test_when_nothing_suffices_a_model_is_tuned_and_tested_on_the_same_samples(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", hopeless(tmp_path / "s"))
    finished = engine.run(path, tmp_path / "w", Overrides(techniques=("zero_shot", "few_shot")))
    report = finished.report
    assert finished.exit_code == 0
    assert statuses(report) == {"zero_shot": "eliminated", "few_shot": "eliminated", "fine_tune": "certified"}
    escalation = report["escalation"]
    assert escalation["decision"] == "tuned"
    assert escalation["tuned"]["model"].startswith("scripted/")
    assert escalation["tuned"]["trained_tokens"] > 0
    assert escalation["tuned"]["best_dev_score_before"] < escalation["tuned"]["dev_score"]
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as database:
        by_candidate = {
            candidate: {
                sample
                for (sample,) in database.execute(
                    "SELECT sample_id FROM trials WHERE split = 'test' AND candidate = ?", (candidate,)
                )
            }
            for (candidate,) in database.execute("SELECT DISTINCT candidate FROM trials")
        }
    tuned = by_candidate.pop(next(name for name in by_candidate if name.startswith("fine_tune")))
    assert all(samples <= tuned or tuned <= samples for samples in by_candidate.values()), "one shared order"


def test_a_scenario_that_forbids_tuning_ends_without_a_pick(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", hopeless(tmp_path / "s"), fine_tune={"when": "never"})
    finished = engine.run(path, tmp_path / "w")
    assert finished.exit_code == 1
    assert finished.report["verdict"] == "escalate"
    assert finished.report["escalation"]["decision"] == "not_allowed"


def test_reports_fit_their_schema(tmp_path: Path) -> None:
    for name, model, changes in (
        ("pick", weak_and_strong, {}),
        ("tuned", hopeless, {}),
        ("none", hopeless, {"fine_tune": {"when": "never"}}),
        ("stopped", hopeless, {"budget": {"minutes": 1e-9}}),
    ):
        path = toys.scenario(tmp_path / name, model(tmp_path / name), **changes)
        finished = engine.run(path, tmp_path / "w")
        written = json.loads((finished.folder / "report.json").read_text("utf-8"))
        jsonschema.validate(written, SCHEMA, cls=jsonschema.Draft202012Validator)
        assert (finished.folder / "report.md").read_text("utf-8").startswith("# toy")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written | {"verdict": "perhaps"}, SCHEMA)


def test_two_runs_with_one_seed_tell_the_same_story(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", hopeless(tmp_path / "s"))
    first, second = (engine.run(path, tmp_path / place).report for place in ("w1", "w2"))
    assert comparable(first) == comparable(second)
    other = engine.run(path, tmp_path / "w3", Overrides(seed=7)).report
    assert comparable(first) != comparable(other)


def test_a_second_run_in_one_workspace_asks_nothing_again(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", hopeless(tmp_path / "s"))
    first, second = (engine.run(path, tmp_path / "w").report for _ in range(2))
    assert second["spent"]["requests"] == 0
    assert second["spent"]["usd"] == 0
    assert second["spent"]["cached_requests"] >= first["spent"]["requests"]
    drop = {"spent": None}
    assert comparable(first) | drop == comparable(second) | drop


@pytest.mark.parametrize(("events", "kind"), [(1, Evaluated), (40, Evaluated), (110, Evaluated), (30, Tuning)])
def test_a_killed_run_resumes_to_the_same_verdict_and_evaluates_nothing_twice(
    tmp_path: Path, events: int, kind: type[Event]
) -> None:
    path = toys.scenario(tmp_path / "s", hopeless(tmp_path / "s"))
    whole = engine.run(path, tmp_path / "whole").report
    with pytest.raises(Killed):
        engine.run(path, tmp_path / "w", observe=kill_after(events, kind))
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as database:
        ((run_id,),) = database.execute("SELECT id FROM runs").fetchall()
        before = dict(
            database.execute("SELECT candidate || variant || split || sample_id, created FROM trials").fetchall()
        )
    seen: list[str] = []
    resumed = engine.run(
        path,
        tmp_path / "w",
        observe=lambda e: seen.append(e.trial.sample_id) if isinstance(e, Evaluated) else None,
        resume=run_id,
    ).report
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as database:
        after = dict(
            database.execute("SELECT candidate || variant || split || sample_id, created FROM trials").fetchall()
        )
    assert before.items() <= after.items(), "a stored trial was written again"
    assert len(seen) == len(after) - len(before)
    drop = {"spent": None}
    assert comparable(whole) | drop == comparable(resumed) | drop


def test_a_changed_scenario_cannot_be_resumed(tmp_path: Path) -> None:
    model = hopeless(tmp_path / "s")
    path = toys.scenario(tmp_path / "s", model)
    with pytest.raises(Killed):
        engine.run(path, tmp_path / "w", observe=kill_after(5, Evaluated))
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as database:
        ((run_id,),) = database.execute("SELECT id FROM runs").fetchall()
    toys.scenario(tmp_path / "s", model, goal={"target": 0.5})
    with pytest.raises(InputError, match="the scenario changed since run"):
        engine.run(path, tmp_path / "w", resume=run_id)


def test_a_dollar_budget_is_never_overshot_and_the_run_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "model", toys.rules(0.4, seed=3), billed=True, usd_per_1m_input=1000.0)
    path = toys.scenario(tmp_path / "s", model, budget={"usd": 1.0}, fine_tune={"when": "never"}, traffic={})
    stopped = engine.run(path, tmp_path / "w")
    assert stopped.exit_code == 3
    assert stopped.report["stopped"]
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as database:
        (billed,) = database.execute("SELECT sum(billed_usd) FROM responses").fetchone()
    assert 0.5 < billed <= 1.0
    finished = engine.run(path, tmp_path / "w", Overrides(budget_usd=100.0), resume=stopped.report["run_id"])
    assert finished.exit_code == 1
    assert finished.report["verdict"] == "escalate"


def test_a_price_nobody_knows_is_refused_under_a_dollar_budget_and_never_counted_as_zero(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "model", toys.rules(0.9), billed=True, usd_per_1m_input=None)
    path = toys.scenario(tmp_path / "s", model, budget={"usd": 1.0}, techniques=["zero_shot"])
    for begin in (engine.run, engine.compare):
        with pytest.raises(InputError, match=f"the price of {model} is not known, .* or drop budget.usd"):
            begin(path, tmp_path / "w1")
    assert not (tmp_path / "w1").exists()
    free = toys.scenario(tmp_path / "s", model, techniques=["zero_shot"])
    report = engine.run(free, tmp_path / "w2").report
    assert report["candidates"][0]["usd_per_1k_requests"] is None
    assert report["spent"]["usd"] is None


def test_failing_trials_are_errors_with_a_cost_and_block_the_certificate(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    broken = [{"when": r"test message \d*7 about", "error": "refused"}, *toys.rules(1.0)]
    path = toys.scenario(
        tmp_path / "s",
        toys.script(tmp_path / "s", "model", broken),
        techniques=["zero_shot"],
        fine_tune={"when": "never"},
    )
    report = engine.run(path, tmp_path / "w").report
    (row,) = [candidate for candidate in report["candidates"] if candidate["technique"] == "zero_shot"]
    assert row["status"] == "failed"
    assert row["errors"] > 0
    assert row["mean_score"] == 1.0
    assert any(risk["kind"] == "errors" for risk in report["risks"])


def test_one_workspace_takes_one_run_at_a_time(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", hopeless(tmp_path / "s"))
    met: list[str] = []

    def second(event: Event) -> None:
        if isinstance(event, Evaluated) and not met:
            with pytest.raises(InputError, match=r"another run \(process \d+\) is using this workspace") as caught:
                engine.run(path, tmp_path / "w")
            met.append(str(caught.value))

    engine.run(path, tmp_path / "w", observe=second)
    assert "--workspace" in met[0]


def test_compare_runs_everything_and_names_no_second_winner(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", weak_and_strong(tmp_path / "s"))
    finished = engine.compare(path, tmp_path / "w")
    report = finished.report
    jsonschema.validate(json.loads(json.dumps(report)), SCHEMA)
    assert finished.exit_code == 0
    tested = [candidate for candidate in report["candidates"] if candidate["n"]]
    assert [candidate["n"] for candidate in tested] == [120, 120, 120]
    assert statuses(report)["zero_shot"] == "eliminated"
    assert len(report["comparisons"]) == 3
    picked = next(one for one in tested if one["id"] == report["pick"])
    (proved,) = re.findall(r"scores at least (0\.\d{3}), proved on 120 samples \(target 0\.7\)", picked["reason"])
    assert 0.7 <= float(proved) < picked["mean_score"]
    assert f"(proved: at least {proved}; n=120" in report["because"][0]
    pair = next(p for p in report["comparisons"] if {p["a"][:4], p["b"][:4]} == {"zero", "few_"})
    assert abs(pair["difference"]) > 0.8
    assert pair["p_holm"] < 1e-6
    assert pair["n"] == 120
    assert report["pick"] in report["pareto"]
    assert set(report["may_be_best"]) == {c["id"] for c in tested if c["technique"] != "zero_shot"}


def test_of_two_that_cost_the_same_the_simpler_technique_is_picked_and_the_other_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "model", toys.rules(1.0))
    plain = {"name": "zero_shot", "instruction": "plain"}
    techniques = [{"name": "optimized_prompt"}, plain, {"name": "few_shot", "k": 4}]
    path = toys.scenario(tmp_path / "s", model, techniques=techniques, fine_tune={"when": "never"})
    report = engine.compare(path, tmp_path / "w", Overrides(diagnose=False)).report
    first, second, third = (one for one in report["candidates"] if one["n"])
    assert first["usd_per_1k_requests"] == second["usd_per_1k_requests"] < third["usd_per_1k_requests"]
    assert report["pick"] == first["id"] == f"zero_shot(instruction=plain)@{model}"
    same = f"{second['id']} meets the target too, at the same $0.011 per 1,000 requests, and would do as well."
    assert same in report["would_change"]
    assert not any("the cheaper one" in sentence for sentence in report["would_change"])


def test_samples_of_one_group_stay_together_in_the_shared_order() -> None:
    samples = [Sample(str(number), f"text {number}", "x", group=f"g{number % 7}") for number in range(70)]
    order = shared_order(samples, seed=3)
    groups = [sample.group for sample in order]
    assert sorted(order, key=lambda s: int(s.id)) == samples
    assert len([1 for one, other in itertools.pairwise(groups) if one != other]) == 6
    assert order != shared_order(samples, seed=4)


def test_a_pick_is_looked_at_afresh_on_samples_that_had_no_part_in_picking_it(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", weak_and_strong(tmp_path / "s"))
    report = engine.run(path, tmp_path / "w").report
    picked = next(c for c in report["candidates"] if c["id"] == report["pick"])
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as database:
        by_variant = {
            variant: {
                sample
                for (sample,) in database.execute(
                    "SELECT sample_id FROM trials WHERE split = 'test' AND candidate = ? AND variant = ?",
                    (picked["id"], variant),
                )
            }
            for variant in ("", "fresh")
        }
    assert len(by_variant[""]) == picked["n"]
    assert len(by_variant["fresh"]) == 120 - picked["n"]
    assert not by_variant[""] & by_variant["fresh"]
    assert picked["fresh_score"]["low"] < 0.95 < picked["fresh_score"]["high"]
    assert all(c["fresh_score"] is None for c in report["candidates"] if c is not picked)


def test_a_race_picks_the_same_candidate_with_more_trials(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", weak_and_strong(tmp_path / "s"))
    one, raced = (engine.run(path, tmp_path / f"w{race}", Overrides(race=race)).report for race in (False, True))
    assert one["pick"] == raced["pick"]
    assert sum(c["n"] for c in raced["candidates"]) > sum(c["n"] for c in one["candidates"])


def test_repeats_are_asked_apart_and_count_as_one_observation_a_sample(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", weak_and_strong(tmp_path / "s"), techniques=["few_shot"])
    report = engine.compare(path, tmp_path / "w", Overrides(repeats=3)).report
    row = report["candidates"][0]
    assert row["n"] == 120
    assert row["evaluation"]["requests"] == 3 * 120 + 15
    spent = report["spent"]
    assert spent["requests"] + spent["cached_requests"] == row["fit"]["requests"] + 3 * 120 + 15
    # A deterministic script answers alike every time, so three in a row succeed as often as one.
    assert row["pass_hat"]["1"] == row["pass_hat"]["3"] == pytest.approx(row["mean_score"])


def test_a_test_that_costs_more_than_it_can_save_is_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "model", toys.rules(0.1, seed=3), usd_per_1m_input=2000.0)
    path = toys.scenario(tmp_path / "s", model, traffic={"requests_per_month": 100, "months": 1})
    report = engine.run(path, tmp_path / "w").report
    row = next(c for c in report["candidates"] if c["technique"] == "zero_shot")
    assert (row["status"], row["n"]) == ("skipped", 0)
    assert "Testing it would cost about $" in row["reason"]


@pytest.mark.parametrize("limit", [2, 28])
def test_a_climb_that_could_prove_nothing_is_not_begun(tmp_path: Path, limit: int) -> None:
    goal = {"target": 0.9, "margin": 0.05}
    path = toys.scenario(tmp_path / "s", weak_and_strong(tmp_path / "s"), goal=goal, fine_tune={"when": "never"})
    few = Overrides(techniques=("zero_shot",), limit=limit)
    with pytest.raises(InputError, match=rf"{limit} test samples cannot prove 0.9 .* at least 29 are needed for 1 can"):
        engine.run(path, tmp_path / "w", few)
    assert not (tmp_path / "w").exists()
    assert engine.compare(path, tmp_path / "w", few).report["candidates"][0]["n"] == limit
    enough = engine.run(path, tmp_path / "w", Overrides(techniques=("few_shot",), limit=29)).report
    assert enough["candidates"][0]["n"] > 0


def test_two_settings_of_one_technique_are_two_candidates_and_equal_ones_are_one(tmp_path: Path) -> None:
    tuned = [{"name": "fine_tune"}, {"name": "fine_tune", "recipe": {"sleep_seconds": 0}}]
    path = toys.scenario(
        tmp_path / "s",
        hopeless(tmp_path / "s"),
        techniques=["few_shot", {"name": "few_shot", "k": 4}, {"name": "few_shot", "k": 4, "order": None}, *tuned],
        goal={"target": 0.96, "margin": 0.02},
    )
    report = engine.run(path, tmp_path / "w").report
    names = [candidate["id"].partition("@")[0] for candidate in report["candidates"]]
    assert sorted(names) == ["few_shot", "few_shot(k=4)", "fine_tune", "fine_tune(sleep_seconds=0)"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"techniques": ["fine_tune"], "fine_tune": {"when": "never"}}, "no candidate is left"),
        ({"fine_tune": {"backend": "openai"}}, "the backend 'openai' cannot tune it"),
        ({"fine_tune": {"backend": "local"}}, "the backend 'local' cannot tune it"),
        ({"techniques": [{"name": "fine_tune", "base": "scripted/none.json"}]}, "there is no script file 'none.json'"),
        ({"techniques": [{"name": "fine_tune", "recipe": {"epoch": 3}}]}, "unknown keys ['epoch']"),
    ],
)
def test_what_could_not_be_tuned_is_said_before_anything_is_spent(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    model = hopeless(tmp_path / "s")
    tune = {"when": "needed", "backend": "scripted", "base": model}
    path = toys.scenario(tmp_path / "s", model, **{"fine_tune": tune, **changes})
    with pytest.raises(InputError) as caught:
        engine.run(path, tmp_path / "w")
    assert said in str(caught.value)
    assert not (tmp_path / "w").exists()


def test_a_candidate_without_any_answer_has_no_score_and_no_price(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "model", [{"when": "", "error": "refused for <reasons>"}])
    path = toys.scenario(tmp_path / "s", model, techniques=["zero_shot"], fine_tune={"when": "never"})
    finished = engine.run(path, tmp_path / "w")
    (row,) = [candidate for candidate in finished.report["candidates"] if candidate["technique"] == "zero_shot"]
    assert (row["status"], row["score"], row["mean_score"], row["usd_per_1k_requests"]) == ("failed", None, None, None)
    assert row["error_texts"] == [{"error": "refused for <reasons>", "count": row["n"]}]
    assert "refused for &lt;reasons>" in (finished.folder / "report.md").read_text("utf-8")


def test_errors_are_no_wrong_answers_in_a_graded_score_either(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    broken = [{"when": r"test message \d*7 about", "error": "refused"}, *toys.rules(1.0)]
    model = toys.script(tmp_path / "s", "model", broken)
    goal = {"target": 0.7, "margin": 0.1, "max_error_rate": 0.3}
    changes = {"techniques": ["zero_shot"], "scorer": "token_f1", "fine_tune": {"when": "never"}, "goal": goal}
    path = toys.scenario(tmp_path / "s", model, **changes)
    for execute in (engine.run, engine.compare):
        (row,) = [c for c in execute(path, tmp_path / "w").report["candidates"] if c["technique"] == "zero_shot"]
        assert row["errors"] > 0
        assert row["score"]["value"] == row["mean_score"] == 1.0


def test_a_fit_whose_files_were_lost_is_fitted_again(tmp_path: Path) -> None:
    path = toys.scenario(tmp_path / "s", hopeless(tmp_path / "s"))
    whole = engine.run(path, tmp_path / "w").report
    shutil.rmtree(tmp_path / "w" / "runs" / whole["run_id"] / "fitted")
    again = engine.run(path, tmp_path / "w", resume=whole["run_id"]).report
    assert again["verdict"] == whole["verdict"]
    with pytest.raises(InputError, match="keeps its own options, and these differ: limit, seed"):
        engine.run(path, tmp_path / "w", Overrides(seed=99, limit=5), resume=whole["run_id"])


def test_compare_under_a_budget_keeps_what_was_finished(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "model", toys.rules(0.9), billed=True, usd_per_1m_input=1000.0)
    techniques = [{"name": "zero_shot", "instruction": "plain"}, {"name": "few_shot", "k": 4}]
    path = toys.scenario(tmp_path / "s", model, budget={"usd": 2.5}, techniques=techniques)
    finished = engine.compare(path, tmp_path / "w")
    assert finished.report["stopped"].startswith("the next call to")
    assert "advisor compare" in finished.report["next_steps"][0]
    assert statuses(finished.report)["zero_shot"] == "certified"
    (skipped,) = [one for one in finished.report["candidates"] if one["technique"] == "few_shot"]
    assert skipped["status"] == "skipped"
    assert "would exceed the budget of $2.5" in skipped["reason"]
