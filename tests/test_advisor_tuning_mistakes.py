"""What a tuned model still gets wrong: by label, by meaning, with what to add; from dev alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from advisor import engine
from advisor.report.html.mistakes import tuned_mistakes
from advisor.report.markdown import markdown
from advisor.scenario.model import Overrides
from advisor.tuning.clusters import clusters, typical_words
from advisor.tuning.confusions import OTHER, Answered, confusions, to_add, weakest
from evals.task import Sample
from tests import toys

SCHEMA = json.loads((Path(engine.__file__).parent / "report" / "schema.json").read_text("utf-8"))
LABELS = ("fruit", "metal", "river")


def answered(target: str, answer: str, number: int = 0, text: str = "") -> Answered:
    sample = Sample(f"{target}-{answer}-{number}", text or f"message {number}", target)
    return Answered(sample, answer, target == answer)


def sample(label: str, number: int) -> Sample:
    return Sample(f"{label}-{number}", f"about {label} {number}", label)


# --- by label -------------------------------------------------------------------------------------------------------


def test_confusions_are_counted_and_what_is_no_label_is_called_so() -> None:
    found = confusions(
        [
            *(answered("fruit", "metal", number) for number in range(3)),
            answered("river", "Fruit."),
            answered("metal", "I cannot tell"),
            *(answered("river", "river", number) for number in range(5)),
        ],
        LABELS,
    )
    assert [(one.target, one.answer, one.count) for one in found] == [
        ("fruit", "metal", 3),
        ("metal", OTHER, 1),
        ("river", "fruit", 1),
    ]


def test_the_weakest_class_comes_first_with_its_train_count_and_what_to_add() -> None:
    dev = [answered("fruit", "metal", number) for number in range(6)]
    dev += [answered("fruit", "fruit", number) for number in range(4)]
    dev += [answered("metal", "river", number) for number in range(2)]
    dev += [answered("metal", "metal", number) for number in range(2)]
    dev += [answered("river", "river", number) for number in range(30)]
    train = [sample("fruit", number) for number in range(24)] + [sample("river", number) for number in range(40)]
    fruit, metal = weakest(dev, train, LABELS)
    assert (fruit.label, fruit.n, fruit.wrong, fruit.train, fruit.taken_for, fruit.add) == (
        ("fruit", 10, 6, 24, "metal", 24)
    )
    assert fruit.recall == pytest.approx(0.4)
    assert fruit.low < fruit.recall < fruit.high
    assert (metal.label, metal.train, metal.add) == ("metal", 0, 24), "up to the median class"
    assert "Add about 24 train samples labelled 'fruit': train has 24, and of 10 dev samples of it 4" in fruit.advice


def test_one_wrong_answer_or_a_class_better_than_most_gives_no_advice() -> None:
    dev = [answered("fruit", "metal", 0), *(answered("fruit", "fruit", number) for number in range(3))]
    dev += [answered("metal", "river", number) for number in range(2)]
    dev += [answered("metal", "metal", number) for number in range(20)]
    dev += [answered("river", "metal", number) for number in range(20)]
    assert [one.label for one in weakest(dev, [], LABELS)] == ["river"]


@pytest.mark.parametrize(("own", "typical", "add"), [(0, 0, 10), (3, 0, 10), (50, 0, 50), (5, 60, 55), (900, 0, 200)])
def test_what_to_add_doubles_what_there_is_within_limits(own: int, typical: int, add: int) -> None:
    assert to_add(own, typical) == add


# --- by meaning -----------------------------------------------------------------------------------------------------


def placed(direction: int, n: int, seed: int) -> np.ndarray[Any, Any]:
    """Unit vectors around one axis."""
    rng = np.random.default_rng(seed)
    rows = 0.1 * rng.standard_normal((n, 8))
    rows[:, direction] += 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_inputs_that_are_alike_are_grouped_named_and_counted() -> None:
    lost = [answered("fruit", "metal", number, f"my card was lost {number}") for number in range(12)]
    refund = [answered("river", "metal", number, f"please refund the money {number}") for number in range(8)]
    right = [answered("metal", "metal", number, f"iron and zinc {number}") for number in range(40)]
    vectors = np.concatenate([placed(0, 12, 1), placed(1, 8, 2), placed(2, 40, 3)])
    train = np.concatenate([placed(0, 5, 4), placed(1, 30, 5), placed(2, 65, 6)])
    dev = [*lost, *refund, *right]
    order = random.Random(0).sample(range(60), 60)
    found = clusters([dev[at] for at in order], vectors[order], train, 200)
    pairs = [(group.failures, {one.sample.target for one in group.examples}) for group in found]
    assert 17 <= sum(group.failures for group in found) <= 20, "groups of one or two are left out"
    assert {tuple(targets) for _, targets in pairs} == {("fruit",), ("river",)}, "no group mixes the two"
    first = found[0]
    assert set(first.words) <= {"card", "lost", "was"}
    assert first.near_wrong == first.near_dev <= first.failures
    assert 0 < first.near_train <= 10, "five of a hundred, twice as many in all of train"
    assert first.add == 10
    assert "see " in first.advice
    assert clusters([dev[at] for at in order], vectors[order], train, 200) == found


def test_a_region_that_is_no_worse_than_the_rest_asks_for_nothing() -> None:
    dev = [answered("fruit", "metal" if number % 2 else "fruit", number) for number in range(40)]
    rows = np.repeat(placed(0, 20, 1), 2, axis=0)
    (found,) = clusters(dev[:8], rows[:8], placed(0, 10, 2), 10)
    assert found.failures == 4
    assert found.near_wrong <= 0.75 * found.near_dev, "half of all are wrong"
    assert found.add == 0
    assert "would hardly help" in found.advice


def test_words_are_typical_of_their_group_and_not_of_all() -> None:
    inside = ["the card is lost", "lost my card", "the lost card again"]
    outside = ["the money is gone", "the transfer is late", "my money", "the rate"]
    assert typical_words(inside, outside)[:2] == ("card", "lost")
    assert typical_words(["alone"], outside) == ()


# --- in a run -------------------------------------------------------------------------------------------------------


def scenario(folder: Path, *, hard: bool, n_dev: int = 150) -> Path:
    """A task of which train teaches two labels well and, when `hard`, a third one not: dev and test use other words."""
    folder.mkdir(parents=True, exist_ok=True)
    model = toys.script(folder, "model", toys.rules(0.3, seed=3))
    path = toys.scenario(folder, model, techniques=["zero_shot"], goal={"target": 0.95, "margin": 0.02})
    rng = random.Random(2)
    for split, n in (("train", 150), ("dev", n_dev), ("test", 120)):
        found = []
        for row in toys.rows(split, n):
            if hard and split != "train" and row["target"] == "river":
                row["input"] = f"{split} {rng.choice(['apple pear plum', 'iron zinc'])} stream {rng.randrange(10**6)}"
            found.append(json.dumps(row))
        (folder / f"{split}.jsonl").write_text("\n".join(found) + "\n", encoding="utf-8")
    return path


def confused(folder: Path) -> Path:
    """The same, with most of the third label gone from train, so that it is not known there."""
    path = scenario(folder, hard=True)
    rows = (folder / "train.jsonl").read_text("utf-8").splitlines()
    kept = [row for number, row in enumerate(rows) if '"river"' not in row or number < 9]
    (folder / "train.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


def test_a_run_says_what_to_add_and_looks_at_dev_alone(tmp_path: Path) -> None:
    finished = engine.tune(confused(tmp_path / "s"), tmp_path / "w")
    report = finished.report
    jsonschema.validate(report, SCHEMA)
    errors = report["escalation"]["errors"]
    assert errors["found_on"] == "dev"
    assert errors["dev"]["n"] == 150, "more than the 50 by which candidates are ordered"
    assert errors["dev"]["wrong"] >= 8
    assert errors["test"]["n"] == 120
    assert errors["classes"][0]["label"] == "river"
    assert errors["classes"][0]["train"] == 3
    assert errors["confusions"][0]["target"] == "river"
    assert errors["clusters"]
    assert sum(one["failures"] for one in errors["clusters"]) <= errors["dev"]["wrong"]
    shown = [example["sample_id"] for one in errors["clusters"] for example in one["examples"]]
    assert shown
    assert all(name.startswith("dev-") for name in shown)
    assert any(text.startswith("Add about") for text in errors["advice"])
    assert "dev or test sample in train" in errors["advice"][-1]
    text = json.dumps(errors)
    assert "test-" not in text, "a test sample in the advice would leak into the next train split"
    assert "What the tuned model still gets wrong" in markdown(report)
    assert report["next_steps"][0] == errors["advice"][0]
    command = f"Train on with the new data: advisor tune {tmp_path / 's'} --continue {report['run_id']}"
    command += f" --workspace {tmp_path / 'w'}"
    assert command in report["next_steps"]
    tuned = next(one for one in report["candidates"] if one["technique"] == "fine_tune")
    assert tuned["n"] == 120
    again = engine.tune(confused(tmp_path / "s"), tmp_path / "w", resume=report["run_id"]).report
    assert again["escalation"] == report["escalation"]


def test_too_few_mistakes_are_not_grouped_and_the_report_says_so(tmp_path: Path) -> None:
    report = engine.tune(scenario(tmp_path / "s", hard=False, n_dev=45), tmp_path / "w").report
    errors = report["escalation"]["errors"]
    assert errors["clusters"] == []
    assert "too few to group" in errors["note"]
    assert errors["advice"] == []


def test_nobody_looks_where_diagnoses_are_not_wanted(tmp_path: Path) -> None:
    path = scenario(tmp_path / "s", hard=False, n_dev=45)
    report = engine.tune(path, tmp_path / "w", Overrides(diagnose=False)).report
    assert report["escalation"]["errors"] is None
    assert "still gets wrong" not in markdown(report)
    assert tuned_mistakes(report) is None


def test_texts_of_samples_and_models_do_not_become_markup(tmp_path: Path) -> None:
    path = confused(tmp_path / "s")
    folder = path.parent
    rows = (folder / "dev.jsonl").read_text("utf-8").replace("stream", "<i pear plum apple> stream")
    (folder / "dev.jsonl").write_text(rows, encoding="utf-8")
    finished = engine.tune(path, tmp_path / "w")
    assert "<i pear" in json.dumps(finished.report["escalation"]["errors"])
    page = (finished.folder / "report.html").read_text("utf-8")
    assert "What the tuned model still gets wrong" in page
    assert "<i pear" not in page.split("<script")[0]
    assert "<i pear" not in (finished.folder / "report.md").read_text("utf-8")
