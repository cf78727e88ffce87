"""What candidates are called in tables of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable

_NAME_WIDTH = 22
"""Characters of a candidate's name that a table of 80 columns has room for."""


def short_names(candidates: Iterable[str]) -> dict[str, str]:
    """What to call candidates where room is short: the technique alone while all are on one model."""
    found = [candidate.partition("@") for candidate in candidates]
    one_model = len({model for _, _, model in found}) == 1
    return {f"{name}@{model}": _broken(name) + ("" if one_model else f"\n  {model}") for name, _, model in found}


def _broken(name: str) -> str:
    """A technique with settings too long for one line has them on the next."""
    return name if len(name) <= _NAME_WIDTH else name.replace("(", "\n  (", 1)
