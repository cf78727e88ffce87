"""JSON Schemas as OpenAI's strict mode wants them: every property required, nothing beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SAFE = {
    *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs"),
    *("definitions", "description", "title", "pattern", "format", "multipleOf", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
}
"""Keywords that strict mode knows (OpenAI's guide to structured outputs, supported schemas)."""
_IDLE = {"$schema", "$id", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly"}
"""Keywords that forbid nothing."""


class _NotStrict(Exception):
    """The schema says something that strict mode cannot."""


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """A strict schema of which every document is valid under `schema`, None when there is none that is sure.

    A property that may be left out is null instead; `without_nulls` takes it out again.
    """
    keys = [key for part in _parts(schema) for key in part]
    if _leaves_out(schema) and ("anyOf" in keys or "$ref" in keys):
        # A null below could mean two things, and `without_nulls` does not follow references.
        return None
    try:
        return dict(_strict(schema))
    except _NotStrict:
        return None


def without_nulls(value: Any, schema: Any) -> Any:
    """The document without the nulls that stand for properties left out, by the schema before strict_schema."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, list):
        return [without_nulls(item, schema.get("items")) for item in value]
    if not isinstance(value, dict):
        return value
    properties, required = schema.get("properties", {}), schema.get("required", [])
    return {
        name: without_nulls(part, properties.get(name))
        for name, part in value.items()
        if part is not None or name in required or name not in properties
    }


def _strict(schema: Any) -> Mapping[str, Any]:
    if not isinstance(schema, Mapping) or not set(schema) <= _SAFE | _IDLE:
        raise _NotStrict
    kept = {key: value for key, value in schema.items() if key not in _IDLE}
    for key in ("$defs", "definitions"):
        if key in kept:
            kept[key] = {name: _strict(part) for name, part in kept[key].items()}
    if "items" in kept:
        kept["items"] = _strict(kept["items"])
    if "anyOf" in kept:
        kept["anyOf"] = [_strict(part) for part in kept["anyOf"]]
    if "properties" in kept or kept.get("type") == "object":
        kept |= _object(schema)
    return kept


def _object(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    # An object of free keys has no strict form.
    if not properties or schema.get("additionalProperties") not in {None, True, False}:
        raise _NotStrict
    strict = {name: _strict(part) for name, part in properties.items()}
    found = {name: part if name in required else _or_null(part) for name, part in strict.items()}
    if not set(required) <= set(properties):
        raise _NotStrict
    return {"properties": found, "required": list(found), "additionalProperties": False}


def _or_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _leaves_out(schema: Any) -> bool:
    return any(set(part.get("properties") or ()) - set(part.get("required") or ()) for part in _parts(schema))


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings within a schema, itself included."""
    if isinstance(schema, Mapping):
        yield schema
    nested = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    for part in nested:
        yield from _parts(part)
