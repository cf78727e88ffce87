"""Tools in the few words a prompt needs: a signature a line, read from the JSON Schema of the arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from advisor.tools.calls import parsed
from backends.types import Tool

_DEEPEST = 3
"""Levels of nested objects that are spelt out."""


def signatures(tools: Sequence[Tool]) -> str:
    """All tools, with what their arguments mean where that is more than their names say."""
    return "\n".join(_signature(tool) for tool in tools)


def _signature(tool: Tool) -> str:
    schema = parsed(tool)
    arguments = _arguments(schema, schema, _DEEPEST)
    lines = [f"{tool.name}({arguments}): {' '.join(tool.description.split())}".rstrip(": ")]
    for name, part in schema["properties"].items():
        about = part.get("description", "") if isinstance(part, Mapping) else ""
        if _letters(about) not in {"", _letters(name)}:
            lines.append(f"  {name}: {' '.join(about.split())}")
    return "\n".join(lines)


def _letters(text: str) -> str:
    """What tells two phrases apart whatever their case and spacing: `timeRange` and "time range" say the same."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _arguments(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    required = set(schema.get("required") or ())
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {_kind(part, root, depth)}{_default(part)}"
        for name, part in (schema.get("properties") or {}).items()
    )


def _default(schema: Any) -> str:
    default = schema.get("default") if isinstance(schema, Mapping) else None
    return "" if default is None else f" = {_json(default)}"


def _kind(schema: Any, root: Mapping[str, Any], depth: int) -> str:
    """A type in a word or two; what it cannot say is enforced, or checked, by the schema itself."""
    schema = _followed(schema, root)
    if not isinstance(schema, Mapping):
        return "any"
    for values in (schema.get("enum"), [schema["const"]] if "const" in schema else None):
        if values:
            return " | ".join(map(_json, values))
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(_kind(part, root, depth) for part in parts))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " | ".join(kind)
    if kind == "array":
        return f"list of {_kind(schema.get('items'), root, depth)}"
    if kind == "object" and schema.get("properties") and depth:
        return f"{{{_arguments(schema, root, depth - 1)}}}"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _followed(schema: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within the tool's own schema leads to."""
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return schema
    found: Any = root
    for name in reference[2:].split("/"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def example(tool: Tool) -> dict[str, Any]:
    """A call that shows the form and says nothing about values: small models take the words of a pattern for values."""
    schema = parsed(tool)
    properties = schema["properties"]
    shown = [name for name in properties if name in (schema.get("required") or ())] or list(properties)[:1]
    return {"name": tool.name, "arguments": {name: _blank(_followed(properties[name], schema)) for name in shown}}


def _blank(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return "..."
    if schema.get("enum"):
        return schema["enum"][0]
    blanks: dict[str, Any] = {"integer": 0, "number": 0, "boolean": True, "array": [], "object": {}}
    kind = schema.get("type")
    return blanks.get(kind, "...") if isinstance(kind, str) else "..."


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
