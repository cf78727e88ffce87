"""Scorers by name, as a scenario asks for them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from backends.errors import InputError, Problem
from evals.scorers.base import AnyScorer, ModelScorer, Scorer, ScorerError, right_answer
from evals.scorers.citation import Citation, JudgedCitation
from evals.scorers.custom import load_custom
from evals.scorers.json_fields import JsonFields
from evals.scorers.judge import Judge
from evals.scorers.ngrams import Bleu, Chrf, RougeL
from evals.scorers.numeric import Numeric
from evals.scorers.pattern import Regex
from evals.scorers.semantic import SemanticSimilarity
from evals.scorers.sql import SqlLogicalForm
from evals.scorers.text import Exact, Includes, TokenF1
from evals.scorers.tool_calls import ToolCalls

__all__ = [
    "SCORERS",
    "AnyScorer",
    "ModelScorer",
    "Scorer",
    "ScorerError",
    "is_custom",
    "make_scorer",
    "right_answer",
]

_BUILTIN: dict[str, type[Any]] = {
    kind.name: kind
    for kind in (
        *(Exact, Includes, TokenF1, Numeric, JsonFields, Regex, RougeL, Chrf, Bleu),
        *(SemanticSimilarity, SqlLogicalForm, Citation, ToolCalls, Judge),
    )
}

SCORERS = tuple(_BUILTIN)
"""Names of the scorers that ship with us."""


def is_custom(name: str) -> bool:
    """True when a scorer's name means the user's own code: `file.py:function`."""
    return name.rpartition(":")[0].endswith(".py")


def make_scorer(spec: str | Mapping[str, Any], folder: Path) -> AnyScorer:
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
    if name == Citation.name:
        return _citation(options, folder)
    scorer: AnyScorer = _options(_BUILTIN[name], options, name)
    return scorer


def _citation(options: Mapping[str, Any], folder: Path) -> AnyScorer:
    """A citation scorer, around the scorer that its option `answer` names."""
    problems: list[Problem] = []
    plain = Citation()
    right: AnyScorer | None = None
    try:
        plain = _options(Citation, {key: value for key, value in options.items() if key != "answer"}, Citation.name)
    except InputError as error:
        problems += error.problems
    try:
        right = _answer_scorer(options.get("answer"), folder)
    except InputError as error:
        problems += [replace(one, where=_inside("answer", one.where)) for one in error.problems]
    if problems:
        raise InputError(problems)
    return JudgedCitation(right, plain.only_gold) if isinstance(right, ModelScorer) else replace(plain, answer=right)


def _answer_scorer(spec: Any, folder: Path) -> AnyScorer | None:
    if spec is None:
        return None
    if not isinstance(spec, str | Mapping):
        what = f"citation: option answer is {spec!r}, but must be a scorer."
        raise InputError(Problem("scorer", what, "Write a name, or {name: NAME, option: value}."))
    return make_scorer(spec, folder)


def _inside(option: str, where: str) -> str:
    """A place of an inner scorer as seen from the outer one; places in files stay."""
    head, dot, rest = where.partition(".")
    return f"{head}.{option}{dot}{rest}" if head == "scorer" else where


@dataclass(frozen=True)
class _CustomOptions:
    """What a scenario may say of a scorer of its own."""

    binary: bool | None = None


def _options(kind: type[Any], options: Mapping[str, Any], name: str) -> Any:
    """An object of a dataclass from what the user wrote for its fields."""
    hints = get_type_hints(kind, include_extras=True)
    known = [field.name for field in fields(kind) if field.init]
    values: dict[str, Any] = {}
    problems = [_missing(field.name, name) for field in fields(kind) if _needed(field) and field.name not in options]
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


def _needed(field: Field[Any]) -> bool:
    return field.init and field.default is MISSING and field.default_factory is MISSING


def _missing(option: str, name: str) -> Problem:
    return Problem("scorer", f"{name} needs the option {option}.", f"Write {{name: {name}, {option}: ...}}.")
