"""A draft from an OpenAI chat file: one conversation a line, as fine-tuning jobs take them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.starting.draft import Draft, Example, Guess, listed, mapping, refuse
from backends.wording import counted
from evals.data import Row

_SYSTEM = ("system", "developer")
_CONVERSATION = "The message is a conversation so far. Write the assistant's next turn, and nothing else."
_OWN = "Each message begins with its own instructions."
_MOSTLY = 0.95
"""Share of conversations that one system message must have to count as the instructions of all."""


def is_chat(rows: Sequence[Row]) -> bool:
    """Whether the rows are conversations: `messages`, or `input.messages` and a preferred answer."""
    return all(_messages(row.fields) is not None for row in rows[:20])


@dataclass(frozen=True, slots=True)
class _Talk:
    """One conversation."""

    system: str
    turns: tuple[tuple[str, str], ...]
    answer: str
    place: str
    fields: Mapping[str, Any]
    calls: bool


def from_chat(rows: Sequence[Row], name: str) -> Draft:
    """System message -> instructions, the last assistant turn -> target, what stands before it -> input."""
    read = [_talk(row, f"{name}:{row.line}") for row in rows]
    found = [talk for talk in read if isinstance(talk, _Talk)]
    lost = [why for why in read if isinstance(why, str)]
    if not found:
        what = "no conversation ends with an answer of the assistant."
        raise refuse(name, what, 'Each line needs {"messages": [..., {"role": "assistant", "content": ...}]}.')
    instructions, own, guesses = _instructions(found)
    several = any(len(talk.turns) > 1 for talk in found)
    if several:
        instructions = "\n\n".join(text for text in (instructions, _CONVERSATION) if text)
        why = f"{sum(len(talk.turns) > 1 for talk in found)} of {len(found)} conversations have more than one turn"
        guesses.append(Guess("input", "the whole conversation", why, "Does production send earlier turns, too?"))
    else:
        guesses.append(Guess("input", "the user's message", "every conversation has one"))
    guesses.append(Guess("target", "the assistant's last turn", "that is what the file trains", ""))
    examples = tuple(_example(talk, own, several) for talk in found)
    tools = _tools(rows)
    told = (f"{counted(len(lost), 'line')} without an answer in text, the first: {lost[0]}.",) if lost else ()
    if tools is None:
        told = (*told, "the tools: they differ from line to line.")
    return Draft(
        "an OpenAI chat file",
        examples,
        instructions or None,
        tools=() if tools is None or not any(talk.calls for talk in found) else tuple(tools),
        guesses=tuple(guesses),
        lost=told,
    )


def _messages(fields: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The messages of a line with its answer last; preference data hold the answer apart."""
    found = fields.get("messages")
    inner = fields.get("input")
    if found is None and isinstance(inner, Mapping) and isinstance(fields.get("preferred_output"), list):
        found = [*listed(inner.get("messages")), *fields["preferred_output"]]
    if not isinstance(found, list) or not found or not all(isinstance(one, Mapping) and "role" in one for one in found):
        return None
    return found


def _talk(row: Row, place: str) -> _Talk | str:
    """The conversation of a line, or why it is none."""
    messages = _messages(row.fields)
    if messages is None:
        return f"{place} has no messages"
    last = messages[-1]
    if last["role"] != "assistant":
        return f"{place} does not end with the assistant"
    answer = _calls(last) or _text(last)
    system = "\n\n".join(_text(message) for message in messages if message["role"] in _SYSTEM).strip()
    turns = tuple((str(one["role"]), _calls(one) or _text(one)) for one in messages[:-1] if one["role"] not in _SYSTEM)
    if not answer.strip() or not any(text.strip() for _, text in turns):
        return f"{place} has no text that is asked or answered"
    fields = {
        key: value
        for key, value in row.fields.items()
        if key not in ("messages", "tools", "functions", "parallel_tool_calls", "input", "target", "id", "group")
        if key not in ("preferred_output", "non_preferred_output")
    }
    return _Talk(system, turns, answer.strip(), place, fields, bool(_calls(last)))


def _text(message: Mapping[str, Any]) -> str:
    """The text of a message; parts that are no text are left out."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping) and "text" in part)
    return content if isinstance(content, str) else ""


def _calls(message: Mapping[str, Any]) -> str:
    """The calls of a message as the scorer `tool_calls` reads them; empty where it makes none."""
    made = [one.get("function") for one in listed(message.get("tool_calls")) if isinstance(one, Mapping)]
    made += [message["function_call"]] if message.get("function_call") else []
    calls = []
    for call in made:
        if isinstance(call, Mapping):
            arguments = call.get("arguments") or {}
            try:
                arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            except ValueError:
                return ""
            calls.append({"name": call.get("name"), "arguments": arguments})
    return json.dumps(calls, ensure_ascii=False) if calls else ""


def _instructions(talks: Sequence[_Talk]) -> tuple[str, bool, list[Guess]]:
    """The system message of all; or a sentence for them, where each has its own."""
    counts = Counter(talk.system for talk in talks)
    system, number = counts.most_common(1)[0]
    if number >= _MOSTLY * len(talks) and system:
        why = f"the system message of {number} of {len(talks)} conversations"
        check = "Would a new colleague understand it? It may lean on what an earlier tuned model knew by heart."
        return system, False, [Guess("instructions", "the system message", why, check)]
    if not any(talk.system for talk in talks):
        return "", False, []
    why = f"there are {len(counts)} different ones; each stands before its message"
    return _OWN, True, [Guess("instructions", "the system messages", why, "Could one text say it for all?")]


def _example(talk: _Talk, own: bool, several: bool) -> Example:
    turns = "\n\n".join(f"{role.capitalize()}: {text}" for role, text in talk.turns) if several else talk.turns[0][1]
    asked = f"{talk.system}\n\n{turns}" if own and talk.system else turns
    return Example(asked, talk.answer, talk.place, fields=talk.fields)


def _tools(rows: Sequence[Row]) -> list[Mapping[str, Any]] | None:
    """The tools that all lines declare; None when they differ."""
    named = [listed(row.fields.get("tools")) or listed(row.fields.get("functions")) for row in rows]
    found = {json.dumps(tools, sort_keys=True) for tools in named}
    if len(found) != 1:
        return None
    return [_declared(mapping(one)) for one in json.loads(found.pop())]


def _declared(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = mapping(tool.get("function", tool))
    return {key: inner[key] for key in ("name", "description", "parameters") if inner.get(key) is not None}
