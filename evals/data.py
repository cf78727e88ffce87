"""Reads rows from files and turns them into samples; every row keeps the place it came from.

Nothing is repaired in silence: what cannot be read is a Problem with file and line, and all of a file's problems are
found in one pass.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

from backends.errors import Problem
from backends.wording import agreeing, counted
from evals.task import Sample

PROBLEMS_PER_FILE = 20
"""How many problems of one file are told one by one."""

ROLES = ("id", "input", "target", "group")

_ALIKE = 0.7
"""How alike a field must be to be taken for a slip of the pen; 'text' and 'target' reach 0.6."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file."""

    line: int
    """Line the row starts on; in files without lines the number of the row, from 1."""
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """The readable rows of a file and everything that is wrong with the others."""

    where: str
    """The file, as its problems name it."""
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A sample and the `file:line` it was read from."""

    sample: Sample
    place: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Which field of a row plays which part; parts that are not named have a field of their own name."""

    named: Mapping[str, str] = field(default_factory=dict)
    """From `id`, `input`, `target`, `group` to the name in the file."""

    def of(self, role: str) -> str:
        """The field that plays a part."""
        return self.named.get(role, role)


def to_samples(
    table: Table, columns: Columns, split: str, *, labelled: bool = True
) -> tuple[list[Placed], list[Problem]]:
    """Samples of the rows of a table, and what is wrong with the rows that are none.

    Rows without an id get one from the split's name and their line. Fields that play no part become metadata.
    Without `labelled`, targets are not asked for and not read: every target is empty.
    """
    needed = ("input", "target") if labelled else ("input",)
    missing = _missing_columns(table, columns, needed)
    if missing:
        return [], missing
    placed: list[Placed] = []
    problems: list[Problem] = []
    for row in table.rows:
        place = f"{table.where}:{row.line}"
        texts = {role: as_text(row.fields.get(columns.of(role))) for role in ROLES}
        wrong = [_empty(place, role, columns.of(role)) for role in needed if not (texts[role] or "").strip()]
        if wrong:
            problems.extend(wrong)
            continue
        used = {columns.of(role) for role in ROLES}
        sample = Sample(
            id=(texts["id"] or "").strip() or f"{split}-{row.line}",
            input=texts["input"] or "",
            target=(texts["target"] or "") if labelled else "",
            metadata={name: value for name, value in row.fields.items() if name not in used},
            group=(texts["group"] or "").strip() or None,
        )
        placed.append(Placed(sample, place))
    return placed, capped(problems)


def as_text(value: Any) -> str | None:
    """A value of a file as text: text as it is, everything else as canonical JSON, nothing as None."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a typed format in JSON's types: dates and decimals as text, bytes in hex, NaN as nothing."""
    plain: dict[str, Any] = json.loads(json.dumps(fields, default=_plain), parse_constant=_nothing)
    return plain


def _plain(value: Any) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


def _nothing(_: str) -> None:
    return None


def _empty(place: str, role: str, column: str) -> Problem:
    name = role if role == column else f"{role} (field {column!r})"
    return Problem(place, f"the {name} is missing or empty.", "Fill it in or remove the row.")


def _missing_columns(table: Table, columns: Columns, needed: Sequence[str]) -> list[Problem]:
    """Fields that no row of the file has: told once for the file, not once a row.

    Besides the `needed` ones, those that the scenario names, where the rows are labelled like the rest of its data.
    """
    if not table.rows:
        return []
    found = {name: None for row in table.rows for name in row.fields}
    wanted = [role for role in ROLES if role in needed or (role in columns.named and "target" in needed)]
    return [
        _missing_column(table.where, role, columns, list(found)) for role in wanted if columns.of(role) not in found
    ]


def _missing_column(where: str, role: str, columns: Columns, found: Sequence[str]) -> Problem:
    column = columns.of(role)
    taken = {columns.of(other) for other in ROLES if other != role}
    near = difflib.get_close_matches(column, [name for name in found if name not in taken], n=1, cutoff=_ALIKE)
    name = near[0] if near else "NAME"
    return Problem(
        where,
        f"no row has a field {column!r} for the {role}; the fields are {', '.join(map(repr, found))}.",
        f"Name the right one in scenario.yaml, columns: {{{role}: {name}}}.",
    )


def capped(problems: Iterable[Problem]) -> list[Problem]:
    """The first problems of one kind, and how many more there are."""
    found = list(problems)
    if len(found) <= PROBLEMS_PER_FILE:
        return found
    hidden = found[PROBLEMS_PER_FILE:]
    more = f"{counted(len(hidden), 'more problem')} of this kind {agreeing(len(hidden), 'is', 'are')}"
    what = f"from here on, {more} not listed."
    return [*found[:PROBLEMS_PER_FILE], Problem(hidden[0].where, what, "")]
