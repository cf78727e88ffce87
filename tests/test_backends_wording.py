"""How figures are worded: one of a thing is told in the singular."""

from __future__ import annotations

import pytest

from backends.wording import agreeing, counted


@pytest.mark.parametrize(
    ("number", "form", "told"),
    [(0, "", "0 rows"), (1, "", "1 row"), (2, "", "2 rows"), (1234, ",", "1,234 rows"), (1.2, ",.0f", "1 row")],
)
def test_what_is_written_decides_about_the_noun(number: float, form: str, told: str) -> None:
    assert counted(number, "row", form) == told


def test_verbs_go_with_the_number() -> None:
    assert [agreeing(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]
