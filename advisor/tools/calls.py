"""A call of a tool as a value: read from what models write, checked against the tool's schema, written canonically."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.tools.references import validator
from backends.types import Tool

_BRACKETS_TRIED = 50
"""Places in a text at which JSON is looked for; a text of nothing but brackets must not take for ever."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool's name and the arguments to call it with."""

    name: str
    arguments: Any
    """An object; anything else is what a model wrote in its place."""

    def as_json(self) -> dict[str, Any]:
        """The call as plain data."""
        return {"name": self.name, "arguments": self.arguments}


def calls_text(calls: Sequence[Call]) -> str:
    """Canonical JSON of a list of calls: what is scored where tools are not run."""
    return json.dumps([call.as_json() for call in calls], ensure_ascii=False, sort_keys=True)


def read_calls(text: str) -> tuple[Call, ...] | None:
    """The calls in an answer: its first JSON value, perhaps between other words. None when that is no calls."""
    value = first_json(text)
    return None if value is NOTHING else calls_of(value)


def calls_of(value: Any) -> tuple[Call, ...] | None:
    """The calls that a JSON value means: a list of calls, `{"calls": [...]}` or one call; None when it is neither."""
    if isinstance(value, dict):
        value = value.get("calls", [value])
    if not isinstance(value, list):
        return None
    calls = [_call(one) for one in value]
    return None if None in calls else tuple(call for call in calls if call is not None)


def _call(value: Any) -> Call | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    return Call(value["name"], read_arguments(value.get("arguments", {})))


def read_arguments(value: Any) -> Any:
    """Arguments as an object, also where they are JSON text as in the chat protocol; broken text stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value or "{}")
    except (ValueError, RecursionError):
        return value


NOTHING = object()
"""What `first_json` finds in a text without JSON; None would be JSON's null."""


def first_json(text: str) -> Any:
    """The first object or list in a text, whatever stands around it; NOTHING when there is none."""
    decoder = json.JSONDecoder()
    for start in _brackets(text):
        try:
            return decoder.raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue
    return NOTHING


def _brackets(text: str) -> Iterator[int]:
    found = (at for at, letter in enumerate(text) if letter in "[{")
    return (at for at, _ in zip(found, range(_BRACKETS_TRIED), strict=False))


def in_order(call: Call, tools: Sequence[Tool]) -> dict[str, Any]:
    """The call as data with its arguments in the order the tool declares them, which constrained answers keep."""
    properties = next((list(parsed(tool)["properties"]) for tool in tools if tool.name == call.name), [])
    if not isinstance(call.arguments, dict):
        return call.as_json()
    names = [name for name in properties if name in call.arguments]
    names += [name for name in call.arguments if name not in properties]
    return {"name": call.name, "arguments": {name: call.arguments[name] for name in names}}


def fault(call: Call, tools: Sequence[Tool]) -> str | None:
    """What keeps a call from being made, in words for the model that asked for it; None when nothing does."""
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        return f"there is no tool {call.name!r}; the tools are {', '.join(tool.name for tool in tools)}"
    if not isinstance(call.arguments, dict):
        return f"the arguments of {call.name} are no JSON object"
    error = _first_error(tool.parameters, call.arguments)
    return None if error is None else f"the arguments of {call.name} do not fit: {error}"


def _first_error(parameters: str, arguments: Mapping[str, Any]) -> str | None:
    from jsonschema.exceptions import best_match

    try:
        error = best_match(_validator(parameters).iter_errors(arguments))
    except RecursionError:
        return "they are nested too deeply"
    if error is None:
        return None
    place = ".".join(str(part) for part in error.absolute_path)
    return f"{place}: {error.message}" if place else error.message


@functools.lru_cache(maxsize=1024)
def _validator(parameters: str) -> Any:
    return validator(_strict(parameters))


def parsed(tool: Tool) -> Mapping[str, Any]:
    """The schema of a tool's arguments, refusing those it does not declare. Not to be changed."""
    return _strict(tool.parameters)


@functools.lru_cache(maxsize=1024)
def _strict(parameters: str) -> Mapping[str, Any]:
    return {"type": "object", "properties": {}, "additionalProperties": False, **json.loads(parameters)}
