"""One cause a failure, and a table of causes that the documentation repeats."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from advisor.diagnosis.causes import LARGER_MODEL, MEANINGS, PRIORITY, CauseName, assign, table
from advisor.techniques import registry

DOCS = Path(__file__).parent.parent / "docs" / "diagnosis.md"


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (set(), "unexplained"),
        ({"skill"}, "skill"),
        ({"noise", "reading"}, "noise"),
        ({"retrieval", "noise"}, "retrieval"),
        ({"tool_use", "chain", "noise"}, "tool_use"),
        ({"format", "retrieval"}, "format"),
        ({"format", "label_noise"}, "label_noise"),
        (set(PRIORITY), "errors"),
    ],
)
def test_a_failure_gets_the_first_cause_that_explains_it(found: set[CauseName], cause: CauseName) -> None:
    assert assign([found]) == [cause]


def test_every_failure_gets_exactly_one_cause() -> None:
    assert assign([{"noise"}, set(), {"format", "noise"}]) == ["noise", "unexplained", "format"]


def test_every_cause_has_a_place_and_a_meaning() -> None:
    assert set(PRIORITY) == set(MEANINGS) == set(get_args(CauseName))
    assert len(PRIORITY) == len(set(PRIORITY))
    assert all(name == meaning.cause and meaning.advice for name, meaning in MEANINGS.items())


def test_the_documentation_shows_the_table_of_the_code() -> None:
    assert table() in DOCS.read_text("utf-8")


def test_the_documentation_gives_the_order_of_the_code() -> None:
    text = DOCS.read_text("utf-8").partition("## One cause a failure")[2].partition("## The ablations")[0]
    places = [text.index(f"`{cause}`") for cause in PRIORITY]
    assert places == sorted(places)


def test_causes_point_to_techniques_that_exist() -> None:
    for meaning in MEANINGS.values():
        assert {*meaning.points_to, *meaning.cannot_help} <= {*registry.names(), LARGER_MODEL}
        assert not set(meaning.points_to) & set(meaning.cannot_help)
