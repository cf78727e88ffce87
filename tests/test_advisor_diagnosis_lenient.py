"""Lenient reading, as a table: what a patient person would accept, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from advisor.diagnosis.lenient import lenient, only_answer
from evals.scorers.json_fields import JsonFields
from evals.scorers.text import Exact
from evals.task import Sample

LABELS = ("card_lost", "card", "top-up", "yes", "no")


def read(output: str, target: str, labels: tuple[str, ...] = (), scorer: Any = None) -> str | None:
    reading = lenient(output, Sample("s", "in", target), scorer or Exact(), labels, 1.0)
    return None if reading is None else reading.text


@pytest.mark.parametrize(
    ("output", "target", "labels"),
    [
        ("```\nParis\n```", "Paris", ()),
        ("```text\nParis", "Paris", ()),
        ("Answer: Paris", "paris", ()),
        ("I thought it over.\nFinal answer - **Paris**.", "Paris", ()),
        ("The correct answer is: Paris.\nI am sure.", "Paris", ()),
        (
            "It is **Paris**, beyond doubt, " + "and whatever anyone may say, today or at any other time, " * 3,
            "Paris",
            (),
        ),
        ("Paris\n\nThat is the capital of France.", "Paris", ()),
        ("Let me see.\nParis", "Paris", ()),
        ("The capital of France is Paris, of course.", "Paris", ()),
        ('{"answer": "Paris"}', "Paris", ()),
        ("So 12 and 30 make 42 apples.", "42", ()),
        ("This is about a Card Lost somewhere.", "card_lost", LABELS),
        ("I would say top up!", "top-up", LABELS),
        ("YES, it is", "yes", LABELS),
    ],
)
def test_a_right_answer_in_another_dress_is_found(output: str, target: str, labels: tuple[str, ...]) -> None:
    assert read(output, target) or read(output, target, labels)
    assert read(output, "something else", labels) is None


@pytest.mark.parametrize(
    ("output", "target", "labels"),
    [
        ("It could be card or top-up.", "card", LABELS),
        ("card_lost it is", "card", LABELS),
        ("No, it is not a yes.", "yes", LABELS),
        ("It is not Paris.", "Paris", ()),
        (" ".join(["word"] * 40) + " Paris " + " ".join(["word"] * 3), "Paris", ()),
        ("There are 42 apples and 7 pears.", "42", ()),
        ("Parisian", "Paris", ()),
        ("", "Paris", ()),
    ],
)
def test_a_wrong_or_undecided_answer_stays_wrong(output: str, target: str, labels: tuple[str, ...]) -> None:
    assert read(output, target, labels) is None


def test_json_is_found_inside_a_text() -> None:
    text = 'Here you are [as asked]: {"name": "x", "slots": {"n": 1}} Anything else?'
    assert read(text, '{"name": "x", "slots": {"n": 1}}', scorer=JsonFields(strict=True)) == (
        '{"name": "x", "slots": {"n": 1}}'
    )


def test_case_is_forgiven_where_the_scorer_minds_it() -> None:
    assert Exact(case_sensitive=True)("PARIS", Sample("s", "in", "Paris")).value == 0.0
    assert read("PARIS", "Paris", scorer=Exact(case_sensitive=True)) == "PARIS"


def test_the_only_answer_is_the_longest_of_those_that_lie_within_each_other() -> None:
    assert only_answer("my card-lost!", LABELS) == "card_lost"
    assert only_answer("my card lost, my card", LABELS) is None
    assert only_answer("discard", LABELS) is None


def test_hostile_answers_are_read_in_time() -> None:
    for output in ("[" * 20_000, "```" * 5_000, "*" * 5_000, "answer " * 3_000, '{"a":' * 3_000):
        assert read(output, "Paris", LABELS) is None
