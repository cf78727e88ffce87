"""The scorer `regex`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.errors import InputError
from evals.scorers import ScorerError, make_scorer, right_answer
from evals.task import Sample

SEARCH = {"name": "regex", "pattern": r"\b\d{4}\b", "search": True}
FROM_TARGET = {"name": "regex", "pattern": "target"}


@pytest.mark.parametrize(
    ("spec", "output", "target", "value"),
    [
        ({"name": "regex", "pattern": r"[A-Z]{2}-\d+"}, " AB-12\n", "any", 1),
        ({"name": "regex", "pattern": r"[A-Z]{2}-\d+"}, "It is AB-12", "any", 0),
        ({"name": "regex", "pattern": r"(?i)yes|no"}, "YES", "any", 1),
        ({"name": "regex", "pattern": r"a|ab"}, "ab", "any", 1),
        (SEARCH, "born in 1999, I think", "any", 1),
        (SEARCH, "born in 19999", "any", 0),
        (FROM_TARGET, "colour", "colou?r", 1),
        (FROM_TARGET, "color", "colou?r", 1),
        (FROM_TARGET, "colors", "colou?r", 0),
        ({**FROM_TARGET, "search": True}, "colors", "colou?r", 1),
        ({"name": "regex", "pattern": "[[a]+"}, "[a", "any", 1),
    ],
)
def test_answers_match_or_not(spec: dict[str, Any], output: str, target: str, value: float) -> None:
    found = make_scorer(spec, Path())(output, Sample("s1", "question", target))
    assert found.value == value
    assert "match" in found.reason


@pytest.mark.parametrize("pattern", ["(", "a{9999999999999}", "(?<n>a)", "[z-a]"])
def test_a_broken_pattern_is_a_problem_at_load(pattern: str) -> None:
    with pytest.raises(InputError, match="not a regular expression") as raised:
        make_scorer({"name": "regex", "pattern": pattern}, Path())
    assert raised.value.problems[0].where == "scorer.pattern"


def test_a_regex_needs_its_pattern() -> None:
    with pytest.raises(InputError, match="regex needs the option pattern"):
        make_scorer("regex", Path())


def test_a_broken_pattern_in_a_target_is_told_before_any_answer() -> None:
    scorer = make_scorer(FROM_TARGET, Path())
    assert right_answer(scorer, Sample("s1", "question", r"\d+")) is None
    with pytest.raises(ScorerError, match=r"target '\(' of sample s1 is not a regular expression"):
        right_answer(scorer, Sample("s1", "question", "("))


def test_an_endless_answer_is_not_matched() -> None:
    found = make_scorer({"name": "regex", "pattern": "(?s).*"}, Path())("a" * 20_001, Sample("s1", "question", "a"))
    assert found.value == 0
    assert "too long to match" in found.reason
