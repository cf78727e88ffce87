"""The scorer `json_fields`: which share of a JSON answer's fields is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from evals.scorers.base import ScorerError, shorten
from evals.scorers.text import normalise
from evals.task import Sample
from evals.trial import Score

_FENCE = "```"
_ABSENT = object()

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonFields:
    """The share of fields that are equal: those of the target and those the answer has beyond it.

    Fields are the leaves of the JSON value, named by their dotted path (`slots.artist`, `0.name` in a list). An
    answer that is not JSON, alone or in one code fence, scores 0. Texts are compared as `exact` does, numbers by value.
    """

    fields: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Compare just these; a path may name a whole part. Absent on both sides counts as equal."""
    strict: bool = False
    """True: 1 when every field is equal, else 0."""
    case_sensitive: bool = False
    """True: `Yes` and `yes` differ."""

    name: ClassVar[str] = "json_fields"

    @property
    def binary(self) -> bool:
        """True when the score is all or nothing."""
        return self.strict

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer."""
        try:
            want = parse_answer(sample.target)
        except ValueError as problem:
            raise ScorerError(f"the target of sample {sample.id} is not JSON: {problem}") from None
        try:
            got = parse_answer(output)
        except ValueError as problem:
            return Score(0.0, f"not JSON ({problem}): {shorten(output)}")
        try:
            paths = self._paths(want, got)
            wrong = [path for path in paths if not self._equal(_at(want, path), _at(got, path))]
        except RecursionError:
            return Score(0.0, f"nested too deeply: {shorten(output)}")
        share = 1.0 - len(wrong) / len(paths)
        reason = f"{len(paths) - len(wrong)} of {len(paths)} fields right"
        if wrong:
            reason += f"; wrong: {', '.join('.'.join(path) or 'the value' for path in wrong[:5])}"
        return Score(float(not wrong) if self.strict else share, reason)

    def _paths(self, want: Any, got: Any) -> list[Path]:
        if self.fields is not None:
            return [tuple(field.split(".")) for field in self.fields]
        return list(dict.fromkeys([*_leaves(want), *_leaves(got)]))

    def _equal(self, left: Any, right: Any) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return normalise(left, self.case_sensitive) == normalise(right, self.case_sensitive)
        if isinstance(left, dict) and isinstance(right, dict):
            return left.keys() == right.keys() and all(self._equal(left[key], right[key]) for key in left)
        if isinstance(left, list) and isinstance(right, list):
            return len(left) == len(right) and all(map(self._equal, left, right))
        return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def parse_answer(text: str) -> Any:
    """The JSON value of an answer, alone or in one code fence. Raises ValueError with the reason."""
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and "\n" in text:
        text = text.partition("\n")[2].removesuffix(_FENCE)
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"{problem.msg} at character {problem.pos + 1}") from None


def has_field(text: str, field: str) -> bool:
    """Whether the JSON of an answer has a field, named by its dotted path; text that is not JSON has none."""
    try:
        return _at(parse_answer(text), tuple(field.split("."))) is not _ABSENT
    except ValueError:
        return False


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Paths of everything that holds nothing further; an empty part is a leaf itself."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = [(str(position), part) for position, part in enumerate(value)]
    if not parts:
        yield path
    for name, part in parts:
        yield from _leaves(part, (*path, name))


def _at(value: Any, path: Path) -> Any:
    for name in path:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return _ABSENT
    return value
