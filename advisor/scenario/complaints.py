"""Turns what pydantic says of a scenario into problems a person can act on."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from advisor.scenario.document import Document
from advisor.scenario.schema import ScenarioFile
from backends.errors import Problem

_TYPES = {
    "string_type": "text",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "below {lt:g}",
    "too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
}


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """One problem for each error, in the order of the file."""
    found = [_problem(details, document) for details in error.errors(include_url=False)]
    return sorted(found, key=lambda problem: int(problem.where.rpartition(":")[2]))


def dotted(path: Sequence[str | int]) -> str:
    """A path as people write it: `goal.target`, `techniques[2].name`."""
    text = "".join(f"[{step + 1}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _problem(details: ErrorDetails, document: Document) -> Problem:
    path = list(details["loc"])
    if path[-1] == "[key]":
        path.pop()
        details["type"] = "invalid_key"
    if details["type"] == "invalid_key":  # the key of a mapping, not a place in a list
        path[-1] = str(path[-1])
    what, remedy = _sentence(details, path)
    return Problem(document.place(path), what, remedy)


def _sentence(details: ErrorDetails, path: list[str | int]) -> tuple[str, str]:
    """What is wrong and what to do about it."""
    kind, value = details["type"], details["input"]
    key = dotted(path)
    if kind == "advisor":
        return f"{key} {details['ctx']['what']}", details["ctx"]["remedy"]
    if kind == "missing":
        return f"{key} is missing.", _how_to_write(path)
    if kind == "extra_forbidden":
        return f"there is no key {key!r}.", _nearest_key(path)
    if kind == "invalid_key":
        return f"the key {key!r} is not text.", "Put it in quotes."
    if value is None:
        return f"{key} is empty.", "Fill it in or remove the key."
    return _about_value(details, path, f"{key} is {_shown(value)}")


def _about_value(details: ErrorDetails, path: list[str | int], start: str) -> tuple[str, str]:
    """The same for a value that is there, but cannot be."""
    kind, context = details["type"], details.get("ctx", {})
    if kind in _TYPES:
        return f"{start}, but must be {_TYPES[kind]}.", _how_to_type(details, path)
    if kind == "literal_error":
        return f"{start}.", f"Write {context['expected']}."
    if kind in _BOUNDS:
        return f"{start}, but must be {_BOUNDS[kind].format(**context)}.", "Correct it."
    if path == ["name"]:
        return f"{start}.", "Use up to 100 letters, digits and _ . - , beginning with a letter or digit."
    if kind in {"string_too_short", "string_pattern_mismatch"}:
        return f"{dotted(path)} is empty.", "Fill it in or remove the key."
    return f"{start}: {details['msg'][0].lower()}{details['msg'][1:]}.", ""


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    text = ("true" if value else "false") if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _how_to_write(path: Sequence[str | int]) -> str:
    field = _field(path)
    return "Add it." if field is None or not field.description else f"Add it: {field.description}"


def _how_to_type(details: ErrorDetails, path: Sequence[str | int]) -> str:
    wanted = _TYPES[details["type"]]
    if "number" in wanted:
        return f"Write {wanted}{' without quotes' if isinstance(details['input'], str) else ''}."
    field = _field(path)
    return f"Write {wanted}." if field is None or not field.description else f"Write {wanted}: {field.description}"


def _nearest_key(path: Sequence[str | int]) -> str:
    section = _section(path[:-1])
    known = list(section.model_fields) if section else []
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known are {', '.join(known)}."


def _field(path: Sequence[str | int]) -> Any:
    section = _section(path[:-1])
    return section.model_fields.get(str(path[-1])) if section else None


def _section(path: Sequence[str | int]) -> type[BaseModel] | None:
    """The model that describes the keys at a path."""
    section: type[BaseModel] | None = ScenarioFile
    for step in path:
        if section is None or isinstance(step, int):
            continue
        field = section.model_fields.get(step)
        section = _model_in(field.annotation) if field else None
    return section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model a field holds, directly, in a list or as one of several."""
    if isinstance(annotation, type(BaseModel)):
        return annotation
    return next((model for part in typing.get_args(annotation) if (model := _model_in(part))), None)
