"""Calls for models without tools of their own: described in the prompt, written as JSON, under a grammar or not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.techniques.prompt import Prompt
from advisor.tools.calls import NOTHING, calls_of, first_json, in_order, read_calls
from advisor.tools.form import CALL_TOKENS, Turn, Worked
from advisor.tools.schema import Bounds, calls_schema, turn_schema
from advisor.tools.signature import example, signatures
from backends.types import ChatRequest, ChatResponse, Message, Tool

_CALLS_ONLY = (
    'Answer with a JSON list of the calls to make: [{"name": TOOL, "arguments": {NAME: VALUE}}]. '
    "Leave out arguments that the input does not give."
)
_NO_CALL = " The list is empty, [], when no tool fits."
_LOOP = (
    'To have tools called, write {{"calls": {calls}}}; you are then told their results. '
    'When you know the answer, write {{"answer": "..."}}.'
)
_ANSWER_NOW = "No more calls can be made: give the answer."


@dataclass(frozen=True)
class PromptedForm:
    """Implements Form for any model."""

    prompt: Prompt
    tools: tuple[Tool, ...]
    executed: bool
    bounds: Bounds
    constrained: bool
    """Whether the model can write nothing but valid calls; otherwise what it writes is read leniently."""

    def opening(self, text: str, worked: Sequence[Worked] = ()) -> tuple[Message, ...]:
        """Instructions with the tools, worked calls, the input."""
        system = f"{self.prompt.instructions}\n\nTools:\n{signatures(self.tools)}\n\n{self._how()}"
        messages = [Message("system", system)]
        for shown in worked:
            messages += [Message("user", shown.input), Message("assistant", self._written(shown))]
        return (*messages, Message("user", text))

    def request(self, messages: Sequence[Message], final: bool = False) -> ChatRequest:
        """A grammar ends the answer by itself, so its limit can be wide; a free answer gets what right ones need."""
        free = max(self.prompt.max_tokens, CALL_TOKENS) if self.executed else self.prompt.max_tokens
        return ChatRequest(
            tuple(messages),
            max_tokens=max(2 * self.prompt.max_tokens, CALL_TOKENS) if self.constrained else free,
            json_schema=self._schema(final) if self.constrained else None,
        )

    def read(self, response: ChatResponse) -> Turn:
        """The first JSON value of the answer, whatever words stand around it."""
        if not self.executed:
            return Turn(read_calls(response.text), response.text)
        value = first_json(response.text)
        if isinstance(value, dict) and "answer" in value:
            return Turn((), _text(value["answer"]))
        return Turn(None if value is NOTHING else calls_of(value), response.text.strip())

    def continued(
        self, messages: Sequence[Message], turn: Turn, results: Sequence[str], final: bool
    ) -> tuple[Message, ...]:
        """The calls as the model wrote them, and their results as the user's words."""
        calls = [in_order(call, self.tools) for call in turn.calls or ()]
        told = [f"{n}. {call['name']}: {text}" for n, (call, text) in enumerate(zip(calls, results, strict=True), 1)]
        said = "\n".join(["Results of the calls:", *told, *([_ANSWER_NOW] if final else [])])
        return (*messages, Message("assistant", _json({"calls": calls})), Message("user", said))

    def _how(self) -> str:
        if self.executed:
            return _LOOP.format(calls=_json([example(self.tools[0])]))
        # No example of a call here: it would draw a small model to the tool it shows.
        return _CALLS_ONLY + ("" if self.bounds.fewest_calls else _NO_CALL)

    def _written(self, shown: Worked) -> str:
        return _json([in_order(call, self.tools) for call in shown.calls])

    def _schema(self, final: bool) -> str:
        if self.executed:
            return turn_schema(self.tools, answer_schema(self.prompt, self.bounds), self.bounds, final)
        return calls_schema(self.tools, self.bounds)


def answer_schema(prompt: Prompt, bounds: Bounds) -> Mapping[str, Any]:
    """What the answer in a JSON object may be: a label, a value under the task's schema, or a text."""
    if prompt.choices:
        return {"enum": list(prompt.choices)}
    if prompt.json_schema is not None:
        schema: dict[str, Any] = json.loads(prompt.json_schema)
        return schema
    return {"type": "string", "maxLength": bounds.answer}


def _text(answer: Any) -> str:
    """An answer as targets are written: text as it is, everything else as canonical JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, sort_keys=True)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
