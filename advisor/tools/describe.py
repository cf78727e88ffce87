"""Python functions as tools: type hints become a JSON Schema, the docstring says what it is for.

Works on functions that are already imported, so it runs in the tools' own process (`worker`) and never in ours.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?|Attributes):\s*$")
_ARGUMENTS = {"Args", "Arguments", "Parameters"}
_ARGUMENT = re.compile(r"(?P<name>\w+)\s*(\([^)]*\))?:\s*(?P<text>.*)")


class DescriptionError(Exception):
    """A function cannot be a tool; `what` is wrong with it, `remedy` is what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(what)


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles that only repeat the arguments' names; models pay for every token of them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def functions(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The tools of a module in their order: its own public functions, none that are imported."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and inspect.isfunction(inspect.unwrap(value) if callable(value) else value)
        and value.__module__ == module.__name__
        and value.__name__ == name
    }


def adapter(function: Any) -> TypeAdapter[Any]:
    """Validates an object of arguments and calls the function with them."""
    return TypeAdapter(function)


def line_of(function: Callable[..., Any]) -> int:
    """Line of the file on which a function begins, decorators included."""
    code: int = inspect.unwrap(function).__code__.co_firstlineno
    return code


def describe(function: Callable[..., Any]) -> dict[str, Any]:
    """Description and parameters (JSON Schema, in the order of the signature). Raises DescriptionError."""
    _check_signature(function)
    try:
        parameters = adapter(function).json_schema(schema_generator=_Untitled)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise DescriptionError(
            f"{function.__name__}: its type hints cannot be written as a JSON Schema: {reason}.",
            "Use str, int, float, bool, Literal, Enum, list, dict, date or pydantic models.",
        ) from error
    text, arguments = read_docstring(function.__doc__ or "")
    for name, schema in parameters["properties"].items():
        if name in arguments:
            schema.setdefault("description", arguments[name])
    return {"description": text, "parameters": parameters}


def _check_signature(function: Callable[..., Any]) -> None:
    name = function.__name__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        remedy = f"Return a list, or rename it to _{name} if it is no tool."
        raise DescriptionError(f"{name}: it yields values one by one, and a tool returns one value.", remedy)
    parameters = inspect.signature(function).parameters.values()
    unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    bare = [parameter.name for parameter in parameters if parameter.annotation is inspect.Parameter.empty]
    if bare:
        remedy = f"Write def {name}({bare[0]}: str, ...), or rename it to _{name} if it is no tool."
        raise DescriptionError(f"{name}: no type hint for {', '.join(bare)}.", remedy)
    if odd := [parameter.name for parameter in parameters if parameter.kind in unnamed]:
        what = f"{name}: {', '.join(odd)} cannot be given by name."
        raise DescriptionError(what, "Write every argument out; a model gives them by name.")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring in google style says: the text before its sections, and the description of each argument."""
    section, indent = "", 0
    about: list[str] = []
    arguments: dict[str, str] = {}
    last = ""
    for line in inspect.cleandoc(text).splitlines():
        if heading := _SECTION.match(line):
            section, indent, last = heading[1], 0, ""
        elif not section:
            about.append(line)
        elif section in _ARGUMENTS and line.strip():
            depth = len(line) - len(line.lstrip())
            indent = indent or depth
            entry = _ARGUMENT.match(line.strip()) if depth <= indent else None
            if entry:
                last = entry["name"]
            if last:
                arguments[last] = f"{arguments.get(last, '')} {entry['text'] if entry else line.strip()}".strip()
    return " ".join(" ".join(about).split()), arguments
