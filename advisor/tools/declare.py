"""Tools declared as data: a name, a description and a JSON Schema; and names that every API takes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from advisor.tools.references import reference_fault
from backends.types import Tool

NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""What tools may be called. APIs refuse the dot, so `api_names` replaces it and puts it back."""
_FIELDS = ("name", "description", "parameters")


def declared(row: Mapping[str, Any]) -> Tool:
    """The tool that a row of `tools.jsonl`, or of a sample's own `tools`, declares.

    Raises ValueError with one sentence about what is wrong.
    """
    name, description = row.get("name"), row.get("description") or ""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"the name {name!r} is not one to 64 letters, digits, dots, hyphens and underscores.")
    if not isinstance(description, str):
        raise ValueError(f"the description of {name} is {description!r}, which is no text.")
    if unknown := sorted(set(row) - set(_FIELDS)):
        raise ValueError(f"{name} has unknown fields {', '.join(unknown)}; a tool has {', '.join(_FIELDS)}.")
    return Tool(name, description, json.dumps(_parameters(name, row.get("parameters")), ensure_ascii=False))


def _parameters(name: str, schema: Any) -> dict[str, Any]:
    from jsonschema import Draft202012Validator, SchemaError

    schema = {} if schema is None else schema
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise ValueError(f"the parameters of {name} are no JSON Schema of an object.")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"the parameters of {name} are no JSON Schema: {error.json_path}: {error.message}.") from None
    if fault := reference_fault(schema):
        raise ValueError(f"the parameters of {name}: {fault}.")
    return {"type": "object", "properties": {}, **schema}


def declared_all(rows: Any) -> tuple[Tool, ...]:
    """The tools of a sample. Raises ValueError for what is wrong with them."""
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("the sample's tools are no list of objects with name, description and parameters.")
    tools = tuple(declared(row) for row in rows)
    names = [tool.name for tool in tools]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two of the sample's tools are called {twice[0]}.")
    return tools


def api_names(tools: Sequence[Tool]) -> dict[str, str]:
    """From each tool's own name to one without dots, no two alike."""
    names = {tool.name: tool.name for tool in tools if "." not in tool.name}
    for tool in tools:
        if tool.name not in names:
            plain = tool.name.replace(".", "_")
            numbered = (f"{plain[:60]}_{number}" for number in itertools.count(2))
            names[tool.name] = next(name for name in itertools.chain([plain], numbered) if name not in names.values())
    return names
