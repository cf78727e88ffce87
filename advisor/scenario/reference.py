"""Writes `docs/scenario.md`, the reference of `scenario.yaml`, from the schema that validates it.

Write it again: `python -m advisor.scenario.reference > docs/scenario.md`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from advisor.scenario.schema import ScenarioFile

_HEAD = """# scenario.yaml

<!-- Written by `python -m advisor.scenario.reference > docs/scenario.md`; a test holds it to the schema. -->

A scenario is a folder with a `scenario.yaml` and the files it names. `advisor init DATA` writes one from data you have;
`advisor check SCENARIO` lists every problem with its line. Keys in **bold** are required; unknown keys are refused.
`${NAME}` and `${NAME:-default}` in paths are environment variables. An editor that reads JSON Schema can use
`advisor/scenario/schema.json`.
"""


def reference() -> str:
    """The page as Markdown."""
    schema = ScenarioFile.model_json_schema()
    parts = [_HEAD, _example(), *_section("scenario.yaml", schema, schema["$defs"], "")]
    return "\n".join(parts).rstrip() + "\n"


def _example() -> str:
    return """The shortest scenario:

```yaml
name: ticket_routing
data: {all: tickets.csv, split: [0.5, 0.2, 0.3]}
instructions: Which team should handle this ticket?
labels: [billing, technical, sales]
scorer: exact
goal: {target: 0.85}
```
"""


def _section(title: str, schema: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """A table of a mapping's keys, then a section for each key that is itself a mapping."""
    yield f"## {title}\n"
    if prefix:
        yield f"{' '.join(schema.get('description', '').split())}\n"
    yield "| key | type | default | |\n|---|---|---|---|"
    required = schema.get("required", [])
    inner: list[tuple[str, Mapping[str, Any]]] = []
    for name, field in schema["properties"].items():
        key = f"**`{name}`**" if name in required else f"`{name}`"
        default = "" if name in required else _default(field)
        nested = _nested(field, known)
        if nested is not None:
            inner.append((f"{prefix}{name}", nested))
        told = field.get("description") or (nested or {}).get("description", "")
        yield f"| {key} | {_kind(field, known)} | {default} | {' '.join(told.split())} |"
    yield ""
    for name, nested in inner:
        yield from _section(name, nested, known, f"{name}.")


def _nested(field: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The mapping that a key holds, or a list of them; None for plain values."""
    for one in (field, *field.get("anyOf", []), field.get("items", {})):
        found = known.get(str(one.get("$ref", "")).rpartition("/")[2])
        if found is not None and "properties" in found:
            return dict(found)
    return None


def _default(field: Mapping[str, Any]) -> str:
    found = field.get("default")
    if found is None or found in ({}, [], "") or isinstance(found, dict):
        return ""
    return f"`{found}`" if isinstance(found, str) else f"`{json.dumps(found)}`"


def _kind(field: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "anyOf" in field:
        kinds = [_kind(one, known) for one in field["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in field:
        return "mapping"
    kind = field.get("type", "any value")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_kind(field['items'], known)}" if "items" in field else _numbers(field)
    if kind == "object":
        return "mapping"
    return f"{kind}{_bounds(field)}"


def _numbers(field: Mapping[str, Any]) -> str:
    count = len(field.get("prefixItems", ()))
    return f"list of {count} numbers" if count else "list"


def _bounds(field: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {field[name]:g}" for name, sign in signs.items() if name in field]
    return f" {', '.join(found)}" if found else ""


if __name__ == "__main__":
    sys.stdout.write(reference())
