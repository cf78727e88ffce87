"""JSON Schemas of answers that ask for tools: what a constrained model can write, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from advisor.tools.calls import calls_of, first_json, parsed
from backends.types import Tool

_LEARNT_FROM = 20
"""Worked calls from which bounds are taken; fewer say too little about what may come."""
_CHARACTERS, _FEWEST_CHARACTERS = 400, 32
_ITEMS, _FEWEST_ITEMS = 32, 4
_LARGEST = 10**15
"""Of whole numbers: more digits than these are a model repeating itself."""
_RANGE = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_ROOM = 1.5
"""How much longer than any seen a text or list may be."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a constrained answer can hold. A small model left to itself repeats until its tokens run out."""

    fewest_calls: int = 0
    most_calls: int = 8
    characters: int = _CHARACTERS
    """Longest text argument that the tool's schema does not bound or enumerate itself."""
    items: int = _ITEMS
    """Longest list."""
    answer: int = _CHARACTERS
    """Longest answer in words, where tools are run."""

    @classmethod
    def learnt(cls, targets: Sequence[str], most_calls: int) -> Self:
        """Bounds from the train targets, where these are calls and there are enough of them."""
        seen = [calls for target in targets if (calls := calls_of(first_json(target))) is not None]
        if len(seen) < max(_LEARNT_FROM, len(targets)):
            return cls(most_calls=most_calls)
        longest, most_items = _sizes([call.arguments for calls in seen for call in calls])
        return cls(
            fewest_calls=min(map(len, seen)),
            most_calls=min(most_calls, max(map(len, seen))),
            characters=max(_FEWEST_CHARACTERS, int(_ROOM * longest)),
            items=max(_FEWEST_ITEMS, int(_ROOM * most_items)),
        )

    @classmethod
    def of_answers(cls, targets: Sequence[str], most_calls: int) -> Self:
        """Bounds where tools are run and the train targets are the answers at the end."""
        if not targets:
            return cls(most_calls=most_calls)
        return cls(most_calls=most_calls, answer=max(_FEWEST_CHARACTERS, int(_ROOM * max(map(len, targets)))))


def _sizes(value: Any) -> tuple[int, int]:
    """Length of the longest text and of the longest list inside the items of a list or object."""
    longest = most = 0
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, str):
            longest = max(longest, len(part))
        elif isinstance(part, dict | list):
            inner = _sizes(part)
            own = len(part) if isinstance(part, list) else 0
            longest, most = max(longest, inner[0]), max(most, inner[1], own)
    return longest, most


def calls_schema(tools: Sequence[Tool], bounds: Bounds) -> str:
    """Schema of a list of calls, empty when no call is to be made."""
    definitions: dict[str, Any] = {}
    answer = _calls(tools, bounds, definitions, bounds.fewest_calls)
    return json.dumps({**answer, "$defs": definitions}, ensure_ascii=False)


def turn_schema(tools: Sequence[Tool], answer: Mapping[str, Any], bounds: Bounds, final: bool) -> str:
    """Schema of one turn of a loop: `{"calls": [...]}` or `{"answer": ...}`, of the final one just the answer."""
    definitions: dict[str, Any] = {}
    turns = [object_of({"answer": placed("answer", answer, definitions)})]
    if not final:
        turns.insert(0, object_of({"calls": _calls(tools, bounds, definitions, 1)}))
    return json.dumps({"anyOf": turns, "$defs": definitions}, ensure_ascii=False)


def _calls(tools: Sequence[Tool], bounds: Bounds, definitions: dict[str, Any], fewest: int) -> dict[str, Any]:
    kinds = [
        object_of(
            {"name": {"const": tool.name}, "arguments": placed(f"tool{i}", bounded(parsed(tool), bounds), definitions)}
        )
        for i, tool in enumerate(tools)
    ]
    most = max(bounds.most_calls, fewest)
    return {"type": "array", "items": {"anyOf": kinds}, "minItems": fewest, "maxItems": most}


def object_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of an object with exactly these properties, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def placed(name: str, schema: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Put a whole schema under a name into the definitions of another, so that its references still lead inside it."""
    definitions[name] = _moved(schema, f"#/$defs/{name}")
    return {"$ref": f"#/$defs/{name}"}


def _moved(value: Any, root: str) -> Any:
    if isinstance(value, list):
        return [_moved(part, root) for part in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: root + part[1:] if key == "$ref" and _is_pointer(part) else _moved(part, root)
        for key, part in value.items()
    }


def _is_pointer(reference: Any) -> bool:
    """Whether it counts from the root of the schema; an anchor, such as `#name`, is found wherever the schema lies."""
    return isinstance(reference, str) and (reference == "#" or reference.startswith("#/"))


_MAPS_OF_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties")
_SCHEMAS = ("items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems")


def bounded(schema: Any, bounds: Bounds) -> Any:
    """The schema with bounds on every text and list that has none of its own."""
    if isinstance(schema, list):
        return [bounded(part, bounds) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    changed = dict(schema)
    for key in _SCHEMAS:
        if key in changed:
            changed[key] = bounded(changed[key], bounds)
    for key in _MAPS_OF_SCHEMAS:
        if key in changed:
            changed[key] = {name: bounded(part, bounds) for name, part in changed[key].items()}
    kinds = changed.get("type")
    if _has(kinds, "string") and not {"enum", "const", "pattern", "format"} & changed.keys():
        changed.setdefault("maxLength", max(bounds.characters, changed.get("minLength", 0)))
    if _has(kinds, "array"):
        changed.setdefault("maxItems", max(bounds.items, changed.get("minItems", 0)))
    if _has(kinds, "integer") and not {"enum", "const", *_RANGE} & changed.keys():
        changed |= {"minimum": -_LARGEST, "maximum": _LARGEST}
    return changed


def _has(kinds: Any, kind: str) -> bool:
    return kinds == kind or (isinstance(kinds, list) and kind in kinds)
