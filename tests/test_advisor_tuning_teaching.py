"""Learning from a teacher: what is taught, what is left out and why, what it costs, and that it is paid for once."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advisor import engine
from advisor.candidates import lineup, teachers
from advisor.events import Evaluated, Event, Tuning
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides
from backends.errors import InputError
from tests import toys

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(engine.__file__).parent / "report" / "schema.json").read_text("utf-8"))
)
KNN = "knn_few_shot"
EXTRA = 60
TEST = 60


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> Iterator[None]:
    """Drawing takes longer than all the rest, and says nothing of teachers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advisor.report.html.pictures._drawing", lambda figure, draw: None)
        yield


class Killed(BaseException):
    """Stands for a process that dies."""


def extra(n: int = EXTRA) -> list[dict[str, Any]]:
    """Messages that nobody has labelled."""
    return [{"id": row["id"], "input": row["input"], "channel": "mail"} for row in toys.rows("extra", n)]


def distilling(folder: Path, rules: list[dict[str, Any]] | None = None, **teacher: Any) -> Path:
    """A base that knows nothing without worked examples; nearest neighbours teach it what they are shown."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = teacher.pop("rows", extra())
    script, changes = teacher.pop("script", {}), teacher.pop("changes", {})
    model = toys.script(folder, "model", rules or toys.rules(1.0, needs="worked example"), **script)
    said = {"inputs": "extra.jsonl", "candidate": {"name": KNN, "k": 4}, "gold": "exclude", **teacher}
    fine_tune = {"when": "always", "backend": "scripted", "base": model, "probe": "probe.jsonl", "teacher": said}
    changes = {"techniques": ["zero_shot", {"name": KNN, "k": 4}], "fine_tune": fine_tune, **changes}
    path = toys.scenario(folder, model, n_test=TEST, **changes)
    (folder / "probe.jsonl").write_text('{"input": "one?", "target": "a"}\n{"input": "two?", "target": "b"}\n', "utf-8")
    (folder / "extra.jsonl").write_text("".join(json.dumps(row) + "\n" for row in inputs), encoding="utf-8")
    return path


def finished(path: Path, workspace: Path, **more: Any) -> Mapping[str, Any]:
    report = engine.run(path, workspace, Overrides(diagnose=False), **more).report
    SCHEMA.validate(json.loads(json.dumps(report)))
    return report


def taught_rows(workspace: Path, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = (workspace / "runs" / report["run_id"] / "taught.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, Any]]:
    """A finished run, for tests that only look at it: its workspace and its report."""
    folder = tmp_path_factory.mktemp("taught")
    return folder / "w", finished(distilling(folder / "s"), folder / "w")


Taught = tuple[Path, Mapping[str, Any]]


def student(report: Mapping[str, Any]) -> dict[str, Any]:
    return next(one for one in report["candidates"] if one["technique"] == "fine_tune")


def test_a_student_learns_from_its_teacher_alone_and_is_tested_on_gold(taught: Taught) -> None:
    workspace, report = taught
    found = report["escalation"]["teaching"]
    assert found["teacher"] == f"{KNN}(k=4)@{report['escalation']['tuned']['base']}"
    assert (found["n_gold"], found["n_asked"], found["n_taught"], found["n_dropped"]) == (0, EXTRA, EXTRA, 0)
    assert (found["agreement"], found["asked_again"], found["ended"]) == (1.0, EXTRA, None)
    assert (found["teacher_status"], found["student"]["against"]) == ("certified", found["teacher"])
    assert found["student"]["n"] == min(student(report)["n"], TEST)
    assert abs(found["student"]["difference"]) < 0.1
    assert found["tokens_share"] < 0.25
    assert student(report)["id"].startswith("fine_tune(taught=True)@")
    assert student(report)["status"] == "certified"
    assert report["scenario"]["n_dev"] == 15
    text = (workspace / "runs" / report["run_id"] / "report.md").read_text("utf-8")
    assert "of its answers to 60 unlabelled inputs 60 were learnt from, beside 0 gold samples" in text
    assert "against its teacher" in text


def test_every_taught_sample_says_where_it_comes_from(taught: Taught) -> None:
    workspace, report = taught
    rows = taught_rows(workspace, report)
    assert {row["id"] for row in rows} == {f"taught-{row['id']}" for row in extra()}
    teacher = report["escalation"]["teaching"]["teacher"]
    assert all(
        (row["source"], row["teacher"], row["agreement"], row["answers"], row["channel"])
        == ("taught", teacher, 1.0, 3, "mail")
        for row in rows
    )
    assert all(row["target"] in toys.LABELS for row in rows)
    card = (workspace / "adapters" / report["escalation"]["tuned"]["adapter"] / "README.md").read_text("utf-8")
    assert "60 samples (" in card
    assert f"Taught by {teacher}" in card


def test_gold_samples_are_learnt_from_too_unless_they_are_excluded(tmp_path: Path) -> None:
    trained: list[Event] = []
    report = finished(distilling(tmp_path / "s", gold="include"), tmp_path / "w", observe=trained.append)
    assert (report["escalation"]["teaching"]["n_gold"], report["escalation"]["teaching"]["n_taught"]) == (60, EXTRA)
    assert {event.progress.steps for event in trained if isinstance(event, Tuning)} == {60 + EXTRA}
    assert all(row["source"] == "taught" for row in taught_rows(tmp_path / "w", report))
    alone: list[Event] = []
    finished(distilling(tmp_path / "other"), tmp_path / "w2", observe=alone.append)
    assert {event.progress.steps for event in alone if isinstance(event, Tuning)} == {EXTRA}


def test_inputs_that_a_split_has_are_never_asked_about(tmp_path: Path) -> None:
    held = [toys.rows(split, 3) for split in ("dev", "test")]
    known = toys.rows("train", 2, "worked example")
    shouted = [{"input": row["input"].upper() + "!"} for row in [*held[0], *held[1][:2], *known]]
    rows = [*extra(20), *shouted, {"input": extra(1)[0]["input"] + " "}]
    report = finished(distilling(tmp_path / "s", rows=rows), tmp_path / "w")
    found = report["escalation"]["teaching"]
    assert found["dropped"] == {"dev": 3, "test": 2, "train": 2, "repeated": 1}
    assert (found["n_inputs"], found["n_asked"], found["n_dropped"], found["n_taught"]) == (28, 20, 8, 20)
    scenario = load_scenario(tmp_path / "s")
    assert scenario.warnings == ("extra.jsonl: 8 inputs are left out (3 in dev, 2 in test, 2 in train, 1 repeated).",)


def test_groups_of_dev_and_test_are_kept_from_the_teacher(tmp_path: Path) -> None:
    path = distilling(tmp_path / "s", rows=[row | {"group": f"g{n % 3}"} for n, row in enumerate(extra(30))])
    test = [row | {"group": "g1"} for row in toys.rows("test", 40)]
    (tmp_path / "s" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test), encoding="utf-8")
    inputs = load_scenario(path).fine_tune.teacher
    assert inputs is not None
    assert inputs.inputs.left_out == {"test": 10}
    assert {sample.group for sample in inputs.inputs.samples} == {"g0", "g2"}


def test_labels_of_the_inputs_are_not_read(tmp_path: Path) -> None:
    path = distilling(tmp_path / "s", rows=[row | {"target": "a lie"} for row in extra()])
    rows = taught_rows(tmp_path / "w", finished(path, tmp_path / "w"))
    assert {row["target"] for row in rows} == set(toys.LABELS)


def wavering(right: list[dict[str, str]]) -> list[dict[str, Any]]:
    """A teacher that answers every fifth message at random, and is right about the others."""
    random = {"when": r"extra message \d*[05] about", "answers": ["metal", "fruit", "river"]}
    return [random, *right]


def test_answers_that_are_not_given_again_are_not_taught(tmp_path: Path) -> None:
    rules = wavering(toys.rules(1.0, needs="worked example"))
    report = finished(distilling(tmp_path / "s", rules), tmp_path / "w")
    found, rows = report["escalation"]["teaching"], taught_rows(tmp_path / "w", report)
    assert found["dropped"] == {"disagreed": EXTRA // 5}
    assert found["agreement"] == pytest.approx(0.8)
    assert not any(re.search(r"message \d*[05] about", row["input"]) for row in rows)
    unfiltered = finished(distilling(tmp_path / "one", rules, answers=1), tmp_path / "w1")["escalation"]["teaching"]
    assert (unfiltered["n_taught"], unfiltered["agreement"], unfiltered["requests"]) == (EXTRA, None, 2 * EXTRA)


def test_no_more_answers_are_asked_for_than_decide(tmp_path: Path) -> None:
    rules = wavering(toys.rules(1.0, needs="worked example"))
    strict = finished(distilling(tmp_path / "s", rules, answers=5), tmp_path / "w")["escalation"]["teaching"]
    steady, unsteady = EXTRA * 4 // 5, EXTRA // 5
    assert strict["requests"] == 2 * (5 * steady + 2 * unsteady), "each answer is an embedding and a request"
    lenient = finished(distilling(tmp_path / "l", rules, answers=3, agreement=0.67), tmp_path / "w2")
    found = lenient["escalation"]["teaching"]
    assert found["n_taught"] >= steady
    assert {row["answers"] for row in taught_rows(tmp_path / "w2", lenient)} <= {2, 3}
    assert found["requests"] < 2 * 3 * EXTRA


def test_free_answers_agree_by_the_scenarios_own_scorer(tmp_path: Path) -> None:
    said = {"when": "extra message", "needs": "worked example", "answers": ["The answer: 7.", "7.0", "seven is 7"]}
    for row in (rules := [said, *toys.rules(1.0, needs="worked example")]):
        row.pop("labels", None)
    numbers = {"labels": None, "scorer": "numeric"}
    path = distilling(tmp_path / "s", rules, changes=numbers)
    for split, n in (("train", 60), ("dev", 15), ("test", TEST)):
        rows = [row | {"target": "7"} for row in toys.rows(split, n, "worked example" if split == "train" else "")]
        (tmp_path / "s" / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    text = path.read_text("utf-8").replace("labels: null\n", "")
    path.write_text(text, encoding="utf-8")
    report = finished(path, tmp_path / "w")
    assert report["escalation"]["teaching"]["n_taught"] == EXTRA
    assert {row["target"] for row in taught_rows(tmp_path / "w", report)} == {"The answer: 7."}


def test_what_cannot_be_a_right_answer_is_not_taught(tmp_path: Path) -> None:
    odd = [
        {"when": r"extra message \d*1 about", "answer": "no label at all"},
        {"when": r"extra message \d*2 about", "error": "refused"},
        {"when": r"extra message \d*3 about", "answer": " "},
        {"when": r"extra message \d*4 about", "answer": " Metal. "},
    ]
    report = finished(distilling(tmp_path / "s", [*odd, *toys.rules(1.0, needs="worked example")]), tmp_path / "w")
    found = report["escalation"]["teaching"]
    assert found["dropped"] == {"unusable": 12, "failed": 6}
    assert {row["target"] for row in taught_rows(tmp_path / "w", report)} == set(toys.LABELS)


def test_the_teachers_dollars_are_a_cost_of_fitting_its_student(taught: Taught) -> None:
    workspace, report = taught
    found = report["escalation"]["teaching"]
    with sqlite3.connect(workspace / "advisor.db") as database:
        usages = database.execute(
            "SELECT usage FROM trials WHERE variant LIKE 'fit: teach%' AND candidate = ?", (student(report)["id"],)
        ).fetchall()
    paid = sum(json.loads(usage)[4] for (usage,) in usages)
    assert found["usd"] == pytest.approx(paid)
    assert student(report)["fit"]["usd"] == pytest.approx(paid + report["escalation"]["tuned"]["cost_usd"])
    assert student(report)["fit"]["requests"] == found["requests"] == 2 * 3 * EXTRA
    teacher = next(one for one in report["candidates"] if one["id"] == found["teacher"])
    assert teacher["fit"]["requests"] < 2 * EXTRA, "its lessons are not its own cost"


def test_a_cap_in_dollars_is_kept_and_said(tmp_path: Path, taught: Taught) -> None:
    whole = taught[1]["escalation"]["teaching"]
    cap = whole["usd"] / 3
    capped = finished(distilling(tmp_path / "c", usd=cap), tmp_path / "w2")["escalation"]["teaching"]
    assert 0.8 * cap < capped["usd"] <= cap
    assert capped["ended"] == "usd"
    assert EXTRA / 5 < capped["n_asked"] < EXTRA / 2
    few = finished(distilling(tmp_path / "f", samples=25), tmp_path / "w3")["escalation"]["teaching"]
    assert (few["n_asked"], few["ended"]) == (25, "samples")


def test_a_cap_without_a_price_is_no_cap(tmp_path: Path) -> None:
    path = distilling(tmp_path / "s", usd=1.0, script={"usd_per_1m_input": None})
    report = finished(path, tmp_path / "w")
    assert student(report)["status"] == "failed"
    assert "fine_tune.teacher.usd cannot be kept" in report["escalation"]["reason"]


def test_a_run_out_of_budget_among_lessons_goes_on_without_paying_twice(tmp_path: Path) -> None:
    path = distilling(tmp_path / "s", script={"billed": True, "usd_per_1m_input": 1000.0})
    whole = engine.run(path, tmp_path / "whole", Overrides(diagnose=False)).report
    budget = whole["spent"]["usd"] - 0.8 * whole["escalation"]["teaching"]["usd"]
    stopped = engine.run(path, tmp_path / "w", Overrides(diagnose=False, budget_usd=budget))
    assert (stopped.exit_code, stopped.report["stopped"] is None) == (0, False)
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as database:
        (billed,) = database.execute("SELECT sum(billed_usd) FROM responses").fetchone()
        (lessons,) = database.execute("SELECT count(*) FROM trials WHERE variant LIKE 'fit: teach%'").fetchone()
    assert billed <= budget
    assert 0 < lessons < 3 * EXTRA
    resumed = engine.run(path, tmp_path / "w", Overrides(budget_usd=1e6), resume=stopped.report["run_id"]).report
    assert resumed["escalation"]["teaching"] == whole["escalation"]["teaching"]
    assert resumed["spent"]["usd"] == pytest.approx(whole["spent"]["usd"])


@pytest.mark.parametrize("lessons", [10, 130])
def test_a_killed_teaching_resumes_to_the_same_lessons(tmp_path: Path, lessons: int) -> None:
    seen = 0

    def kill(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, Evaluated) and event.trial.variant.startswith("fit: teach")
        if seen >= lessons:
            raise Killed

    path = distilling(tmp_path / "s")
    with pytest.raises(Killed):
        engine.run(path, tmp_path / "w", Overrides(diagnose=False), observe=kill)
    run_id = next((tmp_path / "w" / "runs").iterdir()).name
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as database:
        (known,) = database.execute("SELECT count(*) FROM trials WHERE variant LIKE 'fit: teach%'").fetchone()
    assert known >= lessons
    asked: list[str] = []
    resumed = engine.run(
        path,
        tmp_path / "w",
        observe=lambda e: asked.append(e.trial.variant) if isinstance(e, Evaluated) else None,
        resume=run_id,
    ).report
    assert sum(variant.startswith("fit: teach") for variant in asked) == 3 * EXTRA - known
    whole = finished(path, tmp_path / "other")
    assert resumed["escalation"] == whole["escalation"]
    assert taught_rows(tmp_path / "w", resumed) == taught_rows(tmp_path / "other", whole)


def test_other_lessons_make_another_model(tmp_path: Path) -> None:
    one = finished(distilling(tmp_path / "s"), tmp_path / "w")["escalation"]
    other = finished(distilling(tmp_path / "s", samples=50), tmp_path / "w")["escalation"]
    assert one["teaching"]["hash"] != other["teaching"]["hash"]
    assert one["tuned"]["adapter"] != other["tuned"]["adapter"]
    again = finished(distilling(tmp_path / "s"), tmp_path / "w")["escalation"]
    assert (again["teaching"]["hash"], again["tuned"]["adapter"]) == (one["teaching"]["hash"], one["tuned"]["adapter"])


def test_without_a_name_the_pick_teaches_and_without_a_pick_the_best_on_dev(tmp_path: Path) -> None:
    picked = finished(distilling(tmp_path / "s", candidate=None), tmp_path / "w")["escalation"]["teaching"]
    assert (picked["teacher"].partition("(")[0], picked["teacher_status"]) == (KNN, "certified")
    weak = toys.rules(0.5, needs="worked example")
    path = distilling(tmp_path / "weak", weak, candidate=None, changes={"goal": {"target": 0.9, "margin": 0.05}})
    report = finished(path, tmp_path / "w2")
    assert report["escalation"]["teaching"]["teacher"].startswith(KNN)
    assert any(risk["kind"] == "teacher" and "not shown to meet" in risk["text"] for risk in report["risks"])


def test_a_teacher_is_a_candidate_whether_it_is_listed_or_not(tmp_path: Path) -> None:
    path = distilling(tmp_path / "s", candidate="few_shot")
    names = [one.id.partition("@")[0] for one in lineup(load_scenario(path)).prompting]
    assert names == ["zero_shot", "knn_few_shot(k=4)", "few_shot"]
    narrowed = load_scenario(
        distilling(tmp_path / "k", candidate=KNN), Overrides(techniques=("zero_shot", "fine_tune"))
    )
    assert [one.id.partition("@")[0] for one in teachers(narrowed, lineup(narrowed))] == ["knn_few_shot(k=4)"]


def test_tune_and_compare_put_the_student_beside_its_teacher(tmp_path: Path) -> None:
    path = distilling(tmp_path / "s")
    for kind, execute in (("tune", engine.tune), ("compare", engine.compare)):
        report = execute(path, tmp_path / kind, Overrides(diagnose=False)).report
        SCHEMA.validate(json.loads(json.dumps(report)))
        found = report["escalation"]["teaching"]
        assert (found["student"]["n"], found["n_taught"], found["teacher_status"]) == (TEST, EXTRA, "certified")
        assert {student(report)["id"], found["teacher"]} in [{pair["a"], pair["b"]} for pair in report["comparisons"]]


def test_a_model_narrows_the_choice_of_a_teacher(tmp_path: Path) -> None:
    other = toys.script(tmp_path, "other", toys.rules(1.0))
    path = distilling(tmp_path / "s", candidate=None, model=other)
    model = load_scenario(path, Overrides(models=(other,))).models
    assert model == (other,)
    with pytest.raises(InputError, match=r"fine_tune\.teacher: no candidate without training is any on scripted"):
        lineup(load_scenario(path))


def test_too_few_lessons_fail_with_the_reason(tmp_path: Path) -> None:
    rules = [{"when": "extra message", "answer": "no label"}, *toys.rules(1.0, needs="worked example")]
    report = finished(distilling(tmp_path / "s", rules), tmp_path / "w")
    assert (report["escalation"]["decision"], student(report)["status"]) == ("failed", "failed")
    assert "left 0 samples to learn from, and training takes 10" in report["escalation"]["reason"]
    assert "60 unusable; for instance 'no label' is not among the labels" in report["escalation"]["reason"]
    assert student(report)["fit"]["usd"] == pytest.approx(report["escalation"]["teaching"]["usd"])


def test_a_label_that_was_hardly_taught_is_a_risk(tmp_path: Path) -> None:
    rows = [row for row in extra() if not any(word in row["input"] for word in toys.WORDS["river"])]
    report = finished(distilling(tmp_path / "s", rows=rows), tmp_path / "w")
    assert report["escalation"]["teaching"]["rare_labels"] == {"river": 0}
    assert any("next to no samples of some labels: river (0)" in risk["text"] for risk in report["risks"])


def test_lessons_are_part_of_what_a_training_costs_beforehand(tmp_path: Path) -> None:
    def ahead(folder: Path, usd_per_1m_input: float) -> dict[str, Any]:
        traffic = {"requests_per_month": 1.0, "months": 12}
        path = distilling(folder, rows=extra(300), changes={"traffic": traffic})
        train = [json.dumps(row) + "\n" for row in toys.rows("dev", 45)]
        (folder / "dev.jsonl").write_text("".join(train), encoding="utf-8")
        text = path.read_text("utf-8").replace("when: always", "when: pays")
        path.write_text(text, encoding="utf-8")
        return dict(finished(path, folder / "w"))

    report = ahead(tmp_path / "s", 1.0)
    assert report["escalation"]["decision"] == "stopped"
    value = report["economics"]["net_present_value"]
    assert value["spending"]["training_usd"] > report["escalation"]["teaching"]["usd"] > 0
    assert student(report)["fit"]["usd"] > report["escalation"]["teaching"]["usd"]


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"inputs": "nowhere.jsonl"}, r"fine_tune\.teacher\.inputs: nowhere\.jsonl does not exist"),
        ({"candidate": "knn_few_shots"}, r"no technique 'knn_few_shots'"),
        ({"candidate": "fine_tune"}, "fine_tune trains a model, and a teacher is needed before"),
        ({"candidate": {"name": KNN, "neighbours": 3}}, "has no parameter 'neighbours'"),
        ({"agreement": 67}, r"fine_tune\.teacher\.agreement is 67"),
        ({"answers": 0}, r"fine_tune\.teacher\.answers is 0"),
        ({"gold": "mix"}, r"fine_tune\.teacher\.gold is 'mix'"),
        ({"input": "extra.jsonl"}, r"no key 'fine_tune\.teacher\.input'.* Did you mean 'inputs'"),
        ({"rows": toys.rows("dev", 3)}, "has no input that is not in train, dev or test already"),
        ({"rows": [{"text": "x"}]}, r"no row has a field 'input'"),
    ],
)
def test_what_is_wrong_with_a_teacher_is_said_at_its_place(
    tmp_path: Path, teacher: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_scenario(distilling(tmp_path / "s", **teacher))


def test_a_fine_tune_may_stay_without_the_teacher(tmp_path: Path) -> None:
    path = distilling(tmp_path / "s")
    text = path.read_text("utf-8").replace(
        "- zero_shot\n", "- zero_shot\n- name: fine_tune\n- name: fine_tune\n  taught: false\n"
    )
    path.write_text(text, encoding="utf-8")
    report = engine.compare(path, tmp_path / "w", Overrides(diagnose=False)).report
    by_id = {one["candidate"].partition("@")[0]: one["teaching"] for one in report["escalation"]["tuned_candidates"]}
    assert by_id["fine_tune"] is None
    assert by_id["fine_tune(taught=True)"]["n_taught"] == EXTRA
