"""Which column of a table is the input, the target, the id, the group, the split: by name first, then by content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.starting.draft import Guess, refuse
from evals.data import Row, as_text

_IDS = (
    *("id", "_id", "uuid", "guid", "key", "index", "idx", "row_id", "sample_id", "example_id", "question_id"),
    *("ticket_id", "message_id", "unnamed_0"),
)
_INPUTS = (
    *("input", "inputs", "text", "question", "query", "prompt", "utterance", "message", "sentence", "request"),
    *("problem", "instruction", "content", "body", "email", "review", "tweet", "comment", "post", "source", "article"),
    *("document", "passage", "description", "title", "subject", "user"),
)
_TARGETS = (
    *("target", "label", "ideal", "expected", "expected_output", "expected_answer", "output", "answer", "answers"),
    *("completion", "response", "intent", "category", "class", "reference", "ground_truth", "gold", "correct_answer"),
    *("solution", "target_text", "sentiment", "topic", "tag", "queue", "summary", "translation", "sql", "calls"),
    *("highlights", "labels"),
)
_GROUPS = (
    *("group", "cluster", "document_id", "doc_id", "doc", "customer", "customer_id", "user_id", "account_id"),
    *("conversation_id", "session_id", "session", "thread_id", "patient_id", "article_id"),
)
_SPLITS = ("split", "fold", "subset", "partition", "set")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "development": "dev",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "holdout": "test",
}
_TOGETHER = (
    ("instruction", "input"),
    ("context", "question"),
    ("passage", "question"),
    ("body", "question"),
    ("subject", "body"),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
)
"""Columns that make one input together."""
_ENOUGH = 0.5
"""Share of rows that a column must be filled in to be a target by its content."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says of the columns; None leaves it to be guessed."""

    input: str | None = None
    """One column, or several with commas between them."""
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Roles:
    """The part each column plays."""

    input: tuple[str, ...]
    target: str
    id: str | None
    group: str | None
    split: str | None

    @property
    def used(self) -> frozenset[str]:
        """Columns that play a part."""
        return frozenset({*self.input, self.target, self.id or "", self.group or "", self.split or ""})


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    values: tuple[str, ...]
    """Of the rows where it is filled."""
    rows: int

    @property
    def plain(self) -> str:
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    @property
    def distinct(self) -> int:
        return len(set(self.values))

    @property
    def mean_length(self) -> float:
        return sum(map(len, self.values)) / max(1, len(self.values))

    @property
    def filled(self) -> bool:
        return len(self.values) >= _ENOUGH * self.rows

    @property
    def counts(self) -> bool:
        """Whether it only numbers or names the rows: all different, no spaces."""
        return self.distinct == self.rows > 2 and all(re.fullmatch(r"[\w.:/+-]{1,64}", value) for value in self.values)


def choose(rows: Sequence[Row], where: str, wishes: Wishes) -> tuple[Roles, list[Guess]]:
    """The roles of a table's columns. Raises InputError when no column can be the target or the input."""
    columns = _columns(rows)
    if len(columns) < 2:
        what = f"there is one column only ({', '.join(map(repr, columns)) or 'without a name'}): no right answers."
        raise refuse(where, what, "Add a column with the right answer of each row.")
    split = _split(columns)
    wished = tuple(name.strip() for name in (wishes.input or "").split(",") if name.strip())
    _known((*wished, *((wishes.target,) if wishes.target else ())), columns, where)
    taken = {split} if split else set()
    target, why_target = _target(columns, taken | set(wished), wishes.target, where)
    inputs, why_input = (wished, "you said so") if wished else _input(columns, taken | {target}, where)
    identity = _identity(columns, {target, *inputs, *taken})
    group = _group(columns, {target, *inputs, *taken, identity or ""})
    roles = Roles(inputs, target, identity, group, split)
    return roles, _guesses(roles, why_input, why_target, columns)


def _columns(rows: Sequence[Row]) -> dict[str, _Column]:
    names = dict.fromkeys(name for row in rows for name in row.fields)
    found = {}
    for name in names:
        texts = [(as_text(row.fields.get(name)) or "").strip() for row in rows]
        found[name] = _Column(name, tuple(text for text in texts if text), len(rows))
    return {name: column for name, column in found.items() if column.values}


def _known(names: Iterable[str], columns: Mapping[str, _Column], where: str) -> None:
    for name in names:
        if name not in columns:
            what = f"there is no column {name!r}; the columns are {', '.join(map(repr, columns))}."
            raise refuse(where, what, "Name one of them.")


def _split(columns: Mapping[str, _Column]) -> str | None:
    """A column that says train, dev or test, and nothing else."""
    for column in columns.values():
        known = {value.lower() for value in column.values} <= set(SPLIT_NAMES)
        if column.plain in _SPLITS and known and len(column.values) == column.rows and column.distinct > 1:
            return column.name
    return None


def _named(columns: Mapping[str, _Column], names: Sequence[str], taken: set[str]) -> _Column | None:
    """The first column that has one of the names, in the order of the names."""
    free = {column.plain: column for name, column in reversed(list(columns.items())) if name not in taken}
    return next((free[name] for name in names if name in free), None)


def _target(columns: Mapping[str, _Column], taken: set[str], wished: str | None, where: str) -> tuple[str, str]:
    if wished:
        return wished, "you said so"
    named = _named(columns, _TARGETS, taken)
    if named is not None and named.filled:
        return named.name, "right answers are often called so"
    asked = _named(columns, _INPUTS, taken)
    taken = taken | ({asked.name} if asked else {max(columns.values(), key=lambda one: one.mean_length).name})
    plausible = [
        column
        for name, column in columns.items()
        if name not in taken and column.plain not in (*_IDS, *_GROUPS) and not column.counts
        if column.filled and column.distinct > 1
    ]
    if not plausible:
        what = f"no column looks like right answers; the columns are {', '.join(map(repr, columns))}."
        raise refuse(where, what, "Name it: --target-column COLUMN.")
    best = min(plausible, key=lambda column: column.distinct)
    return best.name, f"of the columns left it has the fewest different values ({best.distinct})"


def _input(columns: Mapping[str, _Column], taken: set[str], where: str) -> tuple[tuple[str, ...], str]:
    free = {column.plain: name for name, column in columns.items() if name not in taken}
    for first, second in _TOGETHER:
        if first in free and second in free:
            return (free[first], free[second]), "these two are often asked together"
    named = _named(columns, _INPUTS, taken)
    if named is not None and named.filled:
        return (named.name,), "inputs are often called so"
    texts = [column for name, column in columns.items() if name not in taken and not column.counts]
    if not texts:
        what = f"no column is left for the input; the columns are {', '.join(map(repr, columns))}."
        raise refuse(where, what, "Name it: --input-column COLUMN.")
    longest = max(texts, key=lambda column: column.mean_length)
    return (longest.name,), f"of the columns left it has the longest texts ({longest.mean_length:.0f} characters)"


def _identity(columns: Mapping[str, _Column], taken: set[str]) -> str | None:
    column = _named(columns, _IDS, taken)
    unique = column is not None and column.distinct == column.rows
    return column.name if column is not None and unique else None


def _group(columns: Mapping[str, _Column], taken: set[str]) -> str | None:
    """By name alone, and only where groups repeat and are many: it changes the statistics."""
    column = _named(columns, _GROUPS, taken)
    if column is None or not 6 <= column.distinct < 0.9 * column.rows:
        return None
    return column.name


def _guesses(roles: Roles, why_input: str, why_target: str, columns: Mapping[str, _Column]) -> list[Guess]:
    found = [
        Guess(
            "input",
            " + ".join(roles.input),
            why_input,
            "Is this all that the model will be given in production, and nothing that it will not?",
        ),
        Guess("target", roles.target, why_target, "Is this the right answer, as you want it to be given?"),
    ]
    if roles.id:
        found.append(Guess("id", roles.id, "every row has its own", ""))
    if roles.group:
        distinct = columns[roles.group].distinct
        why = f"named like a cluster; {distinct} of them over {columns[roles.group].rows} rows"
        check = (
            "Rows of one group stay in one split and count as one draw. Remove `group` from the data if they do not."
        )
        found.append(Guess("group", roles.group, why, check))
    if roles.split:
        found.append(Guess("split", roles.split, "it says train, dev or test of every row", ""))
    return found


def composed(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """One column as it is; several as lines with their names."""
    texts = [(name, (as_text(fields.get(name)) or "").strip()) for name in names]
    if len(texts) == 1:
        return texts[0][1]
    return "\n".join(f"{name}: {text}" for name, text in texts if text)
