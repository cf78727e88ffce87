"""The JSON Schema that a number of JSON values follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_PROPERTIES = 60
"""An object with more different keys is a dictionary, whose keys are data."""
_MOST_VALUES = 20
_ROWS_PER_VALUE = 5
"""A text field is a closed set when it has at most so many values, each of them often enough."""
_LONGEST_VALUE = 60


def schema_of(values: Sequence[Any]) -> dict[str, Any]:
    """A schema that all values follow and that says no more than they show."""
    kinds = sorted({_kind(value) for value in values})
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    objects = [value for value in values if isinstance(value, Mapping)]
    if objects:
        schema |= _object(objects)
    items = [item for value in values if isinstance(value, list) for item in value]
    if items:
        schema["items"] = schema_of(items)
    texts = [value for value in values if isinstance(value, str)]
    if kinds == ["string"] and _closed(texts):
        schema["enum"] = sorted(set(texts))
    return schema


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    kinds = {float: "number", str: "string", list: "array", type(None): "null"}
    return kinds.get(type(value), "object")


def _object(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for value in values for name in value))
    if len(names) > _MOST_PROPERTIES:
        return {}
    return {
        "properties": {name: schema_of([value[name] for value in values if name in value]) for name in names},
        "required": [name for name in names if all(name in value for value in values)],
        "additionalProperties": False,
    }


def _closed(texts: Sequence[str]) -> bool:
    counts = Counter(texts)
    often = len(texts) >= _ROWS_PER_VALUE * len(counts) and min(counts.values()) > 1
    return often and 2 <= len(counts) <= _MOST_VALUES and max(map(len, counts)) <= _LONGEST_VALUE
