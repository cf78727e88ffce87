"""Scorers by name, as a scenario asks for them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from backends.errors import InputError, Problem
from evals.scorers.base import Scorer, ScorerError
from evals.scorers.custom import load_custom
from evals.scorers.json_fields import JsonFields
from evals.scorers.numeric import Numeric
from evals.scorers.text import Exact, Includes, TokenF1

__all__ = ["SCORERS", "Scorer", "ScorerError", "is_custom", "make_scorer"]

_BUILTIN: dict[str, type[Any]] = {kind.name: kind for kind in (Exact, Includes, TokenF1, Numeric, JsonFields)}

SCORERS = tuple(_BUILTIN)
"""Names of the scorers that ship with us."""


def is_custom(name: str) -> bool:
    """True when a scorer's name means the user's own code: `file.py:function`."""
    return name.rpartition(":")[0].endswith(".py")


def make_scorer(spec: str | Mapping[str, Any], folder: Path) -> Scorer:
    """The scorer a scenario asks for: a name, `{name: ..., option: value}` or `file.py:function` in `folder`.

    Raises InputError with all problems; their `where` is `scorer`, `scorer.OPTION` or a place in the user's file.
    """
    options = {} if isinstance(spec, str) else {key: value for key, value in spec.items() if key != "name"}
    name = spec if isinstance(spec, str) else spec.get("name")
    if not isinstance(name, str):
        raise InputError(Problem("scorer", "the scorer has no name.", f"Write one of {', '.join(SCORERS)}."))
    if is_custom(name):
        binary = _options(_CustomOptions, options, name).binary
        return load_custom(name, folder, binary)
    if name not in _BUILTIN:
        near = difflib.get_close_matches(name, SCORERS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(SCORERS)} and file.py:function."
        raise InputError(Problem("scorer", f"there is no scorer {name!r}.", hint))
    scorer: Scorer = _options(_BUILTIN[name], options, name)
    return scorer


@dataclasses.dataclass(frozen=True)
class _CustomOptions:
    """What a scenario may say of a scorer of its own."""

    binary: bool | None = None


def _options(kind: type[Any], options: Mapping[str, Any], name: str) -> Any:
    """An object of a dataclass from what the user wrote for its fields."""
    hints = get_type_hints(kind, include_extras=True)
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for option, value in options.items():
        if option not in known:
            problems.append(_unknown(option, known, name))
            continue
        plain = tuple(value) if isinstance(value, list) else value
        try:
            values[option] = TypeAdapter(hints[option]).validate_python(plain, strict=True)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]["msg"].replace("tuple", "list")
            what = f"{name}: option {option} is {value!r}: {fault[0].lower()}{fault[1:]}."
            problems.append(Problem(f"scorer.{option}", what, "Correct or remove it."))
    if problems:
        raise InputError(problems)
    return kind(**values)


def _unknown(option: Any, known: list[str], name: str) -> Problem:
    near = difflib.get_close_matches(str(option), known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(known)}."
    return Problem(f"scorer.{option}", f"{name} has no option {option!r}.", hint)
