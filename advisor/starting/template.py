"""Prompts with places to fill in, `{{name}}`: what in them is always the same, and what each sample brings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.data import as_text

_PLACE = re.compile(r"\{\{-?\s*([A-Za-z_][\w.\[\]]*)\s*-?\}\}")
_STEP = re.compile(r"[^.\[\]]+")

Messages = Sequence[tuple[str, str]]
"""Role and text of each message of a prompt."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt taken apart."""

    instructions: str | None
    """What is the same for all; None where the prompt is nothing but its places."""
    inputs: tuple[str, ...]
    """What each row brings."""
    renamed: bool = False
    """Whether the instructions speak of the places as `[name]`, because they could not be cut off."""


def look_up(expression: str, values: Mapping[str, Any]) -> str | None:
    """The text of `a.b[0]`; None where there is none."""
    found: Any = values
    for step in _STEP.findall(expression):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return as_text(found)


def places(text: str) -> list[str]:
    """The expressions to be filled in, each once, in their order."""
    return list(dict.fromkeys(_PLACE.findall(text)))


def fill(text: str, values: Mapping[str, Any]) -> str:
    """The text with its places filled; those without a value stay as they are."""

    def value(match: re.Match[str]) -> str:
        found = look_up(match[1], values)
        return match[0] if found is None else found

    return _PLACE.sub(value, text)


def take_apart(messages: Messages, rows: Sequence[Mapping[str, Any]]) -> Asked:
    """Divide a prompt into instructions and the inputs of the rows.

    Places that every row fills alike are part of the instructions. A single place at the end is cut off; other prompts
    keep their wording with `[name]` in the places, and the input lists the values by name.
    """
    system = "\n\n".join(text.strip() for role, text in messages if role in ("system", "developer"))
    turns = [(role, text.strip()) for role, text in messages if role not in ("system", "developer")]
    user = turns[0][1] if len(turns) == 1 else "\n\n".join(f"{role.capitalize()}: {text}" for role, text in turns)
    alike = {name for name in places(f"{system}\n{user}") if len({look_up(name, row) for row in rows}) == 1}
    system, user = (_fill_alike(text, alike, rows[0]) for text in (system, user))
    wanted = [name for name in places(f"{system}\n{user}") if look_up(name, rows[0]) is not None]
    if not wanted:
        everything = tuple(_listed(list(row), row) for row in rows)
        return Asked(_joined(system, user), everything)
    cut = _cut(user, wanted, system)
    if cut is not None:
        return Asked(_joined(system, cut), tuple(look_up(wanted[0], row) or "" for row in rows))
    text = _PLACE.sub(
        lambda match: f"[{_short(match[1])}]" if match[1] in wanted else match[0], _joined(system, user) or ""
    )
    return Asked(text, tuple(_listed(wanted, row) for row in rows), renamed=True)


def _fill_alike(text: str, alike: set[str], row: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        found = look_up(match[1], row) if match[1] in alike else None
        return match[0] if found is None else found

    return _PLACE.sub(value, text)


def _cut(user: str, wanted: Sequence[str], system: str) -> str | None:
    """What stands before the only place, when that is the end of the prompt; None otherwise."""
    found = list(_PLACE.finditer(user))
    if len(wanted) != 1 or len(found) != 1 or places(system) or user[found[0].end() :].strip(" \n\"'`"):
        return None
    return user[: found[0].start()].rstrip(" \n\"'`")


def _joined(*texts: str) -> str | None:
    return "\n\n".join(text for text in texts if text.strip()) or None


def _listed(names: Sequence[str], row: Mapping[str, Any]) -> str:
    if len(names) == 1:
        return look_up(names[0], row) or ""
    return "\n".join(f"{_short(name)}: {look_up(name, row) or ''}" for name in names)


def _short(expression: str) -> str:
    return str(_STEP.findall(expression)[-1])
