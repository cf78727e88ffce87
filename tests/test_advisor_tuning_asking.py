"""Answers that nobody has checked: which of them may be taught, and when it is sure enough."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from advisor.scenario.model import Teacher, Unlabelled
from advisor.tuning.asking import Lesson
from advisor.tuning.usable import Usable
from backends.types import Usage
from evals.scorers import make_scorer
from evals.task import Sample, Task
from evals.trial import Score, Trial

INPUT = Sample("1", "how much?", "", {"aliases": ["x"]})
SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}


def usable(scorer: str | Mapping[str, Any] = "exact", **task: Any) -> Usable:
    return Usable(Task("toy", "Answer.", (), (), (), **task), make_scorer(scorer, Path()))


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_nothing_is_no_answer(answer: str) -> None:
    assert usable()(answer, INPUT).value == 0


def test_a_label_is_taught_as_the_scenario_writes_it() -> None:
    asked = usable(labels=("Metal", "fruit"))
    assert asked("  metal. ", INPUT).value == 1
    assert asked.target("  metal. ") == "Metal"
    assert asked("metals", INPUT).reason == "'metals' is not among the labels"


@pytest.mark.parametrize(
    ("answer", "value"),
    [('{"total": 3}', 1.0), ('{"sum": 3}', 0.0), ('{"total": "three"}', 0.0), ("total: 3", 0.0), ("[" * 5000, 0.0)],
)
def test_json_follows_the_schema(answer: str, value: float) -> None:
    assert usable("json_fields", output_schema=json.dumps(SCHEMA))(answer, INPUT).value == value


def test_an_answer_that_the_scorer_cannot_read_as_a_target_is_not_taught() -> None:
    assert usable("numeric")("about 12 apples", INPUT).value == 1
    assert usable("numeric")("many", INPUT).value == 0
    assert "aliases" not in usable({"name": "exact", "references": "aliases"})("y", INPUT).reason
    assert "no field 'other'" in usable({"name": "exact", "references": "other"})("y", INPUT).reason


def test_free_text_is_taught_without_the_spaces_around_it() -> None:
    assert usable("token_f1")(" two words\n", INPUT).value == 1
    assert usable("token_f1").target(" two words\n") == "two words"


def test_a_scorer_that_asks_models_is_not_asked() -> None:
    asked = usable({"name": "judge", "model": "scripted/echo", "rubric": "Is it polite?"})
    assert asked("anything", INPUT).value == 1


def heard(*scores: float | None, answers: int = 3, agreement: float = 1.0) -> Lesson:
    """A lesson whose first answer can be taught, and what further ones score against it; None for one that failed."""
    rules = Teacher(Unlabelled((), 0), answers=answers, agreement=agreement)
    trials = [
        Trial("c", "train", "1", "y", None, "refused", Usage(), 0.1)
        if score is None
        else Trial("c", "train", "1", "y", Score(score), None, Usage(), 0.1)
        for score in (1.0, *scores)
    ]
    return Lesson(Sample("1", "x", "y"), rules, trials)


@pytest.mark.parametrize(
    ("lesson", "fate"),
    [
        (heard(answers=1), "kept"),
        (heard(), None),
        (heard(1.0), None),
        (heard(0.0), "disagreed"),
        (heard(None), "disagreed"),
        (heard(1.0, 1.0), "kept"),
        (heard(1.0, agreement=0.67), "kept"),
        (heard(0.0, agreement=0.67), None),
        (heard(0.0, 1.0, agreement=0.67), "kept"),
        (heard(0.0, 0.0, agreement=0.67), "disagreed"),
        (heard(0.9, 0.6, agreement=0.8), "kept"),
        (heard(0.9, 0.4, agreement=0.8), "disagreed"),
        (heard(0.3, agreement=0.8), "disagreed"),
        (heard(agreement=0.0), "kept"),
    ],
)
def test_a_lesson_is_kept_or_dropped_as_soon_as_further_answers_change_nothing(
    lesson: Lesson, fate: str | None
) -> None:
    assert lesson.fate == fate


def test_agreement_is_the_mean_score_of_what_was_asked() -> None:
    assert heard().again is None
    assert heard(0.8, 0.0, agreement=0.5).agreement == pytest.approx(0.6)
    assert heard(None, 1.0, agreement=0.5).again == 0.0
