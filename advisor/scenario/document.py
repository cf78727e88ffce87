"""Reads YAML and remembers the line of every key, so that problems can point at it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backends.errors import InputError, Problem


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core schema: `yes` and `on` are words, `2e-4` is a number, `007` and dates are words."""


_WHOLE = r"[-+]?(?:0|[1-9][0-9]*)"
_SCALARS = {
    "null": (r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    "int": (rf"{_WHOLE}\Z", list("-+0123456789")),
    "float": (
        rf"(?:(?:{_WHOLE}(?:\.[0-9]*)?|[-+]?\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z",
        list("-+0123456789."),
    ),
    "merge": (r"<<\Z", ["<"]),
}
_CoreLoader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _SCALARS.items():
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


@dataclass(frozen=True)
class Document:
    """A YAML file's content and where each part of it stands."""

    where: str
    """The file, as problems name it."""
    content: dict[str, Any]
    root: yaml.MappingNode

    def place(self, path: Sequence[str | int]) -> str:
        """`file:line` of a key or list item; of the nearest one above it when it is not there."""
        node: yaml.Node = self.root
        line = 1
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            mark, node = found
            line = mark.start_mark.line + 1
        return f"{self.where}:{line}"


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The node whose line is told and the node below it."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in reversed(node.value) if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def read_document(path: Path) -> Document:
    """Read a YAML file that holds one mapping. Raises InputError with every problem of its form."""
    where = path.name
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        line = problem.object[: problem.start].count(b"\n") + 1
        raise InputError(Problem(f"{where}:{line}", "the text is not UTF-8.", "Save the file as UTF-8.")) from None
    except OSError as problem:
        raise InputError(Problem(str(path), f"cannot be read: {problem.strerror}.", "Check the path.")) from None
    try:
        root, content = _parse(text, where)
    except yaml.YAMLError as problem:
        raise InputError(_syntax_problem(problem, where)) from None
    except RecursionError:
        raise InputError(Problem(where, "the YAML is nested too deeply.", "Flatten it.")) from None
    if not isinstance(root, yaml.MappingNode) or not isinstance(content, dict):
        kind = "empty" if content is None else f"a {type(content).__name__}, not a mapping of keys"
        raise InputError(Problem(where, f"the file is {kind}.", "Write name:, data:, instructions:, scorer:, goal:."))
    _refuse_unwritable(content, where)
    return Document(where, content, root)


def _refuse_unwritable(content: dict[str, Any], where: str) -> None:
    """What could not be stored or hashed later: half characters, and parts that hold themselves."""
    try:
        json.dumps(content, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        what, remedy = r"an escape \ud8.. to \udf.. is only half a character.", "Write the whole character."
        raise InputError(Problem(where, what, remedy)) from None
    except (ValueError, RecursionError):
        raise InputError(Problem(where, "an alias (*name) refers to a part it lies in.", "Write it out.")) from None


def _parse(text: str, where: str) -> tuple[yaml.Node | None, Any]:
    loader = _CoreLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, None
        repeated = list(_repeated_keys(root, where))
        if repeated:
            raise InputError(repeated)
        return root, loader.construct_document(root)
    finally:
        loader.dispose()


def _repeated_keys(root: yaml.Node, where: str) -> Iterator[Problem]:
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias of a part already looked at
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(reversed(node.value))
        elif isinstance(node, yaml.MappingNode):
            waiting.extend(value for _, value in reversed(node.value))
            lines: dict[str, int] = {}
            for key, _ in node.value:
                line = key.start_mark.line + 1
                before = lines.setdefault(str(key.value), line)
                if key.start_mark.line + 1 != before:
                    what = f"the key {key.value!r} is already on line {before}."
                    yield Problem(f"{where}:{line}", what, "Remove one of the two.")


def _syntax_problem(problem: yaml.YAMLError, where: str) -> Problem:
    mark = getattr(problem, "problem_mark", None) or getattr(problem, "context_mark", None)
    place = where if mark is None else f"{where}:{mark.line + 1}"
    fault = getattr(problem, "problem", None) or " ".join(str(problem).split())
    return Problem(place, f"broken YAML: {fault}.", "Check indentation, colons and quotes around here.")
