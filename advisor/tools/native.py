"""Calls by the chat protocol: tools go with the request, calls come back beside the text, results as tool messages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from advisor.techniques.prompt import Prompt
from advisor.tools.calls import Call, read_arguments
from advisor.tools.declare import api_names
from advisor.tools.form import CALL_TOKENS, Turn, Worked
from backends.types import ChatRequest, ChatResponse, Message, Tool, ToolCall

_DONE = "done"
"""Result of a worked call: the protocol wants one, and the data have none."""
_NO_CALL = "No tool is needed."


@dataclass(frozen=True)
class NativeForm:
    """Implements Form for models that take tools."""

    prompt: Prompt
    tools: tuple[Tool, ...]
    executed: bool
    """Whether calls are made and answered in words at the end; otherwise the calls are all that is wanted."""

    def opening(self, text: str, worked: Sequence[Worked] = ()) -> tuple[Message, ...]:
        """Instructions, worked calls, the input."""
        messages: tuple[Message, ...] = (Message("system", self.prompt.instructions),)
        for shown in worked:
            messages += (Message("user", shown.input),)
            if shown.calls:
                messages = self.continued(messages, Turn(shown.calls, ""), [_DONE] * len(shown.calls), False)
            else:
                messages += (Message("assistant", _NO_CALL),)
        return (*messages, Message("user", text))

    def request(self, messages: Sequence[Message], final: bool = False) -> ChatRequest:
        """The tools go with every request, also where calls are over: the conversation speaks of them."""
        return ChatRequest(
            tuple(messages),
            max_tokens=max(self.prompt.max_tokens, CALL_TOKENS),
            choices=self.prompt.choices if self.executed else (),
            json_schema=self.prompt.json_schema if self.executed else None,
            tools=tuple(dataclasses.replace(tool, name=self._names[tool.name]) for tool in self.tools),
            tool_choice="none" if final else "auto",
        )

    def read(self, response: ChatResponse) -> Turn:
        """The calls, under the tools' own names."""
        own = {plain: name for name, plain in self._names.items()}
        calls = [Call(own.get(call.name, call.name), read_arguments(call.arguments)) for call in response.tool_calls]
        return Turn(tuple(calls), response.text)

    def continued(
        self, messages: Sequence[Message], turn: Turn, results: Sequence[str], final: bool
    ) -> tuple[Message, ...]:
        """The model's turn with its calls, and one tool message each. Calls are numbered through the conversation."""
        first = 1 + sum(message.role == "tool" for message in messages)
        calls = tuple(
            ToolCall(self._names.get(call.name, call.name), _arguments(call), f"call_{number}")
            for number, call in enumerate(turn.calls or (), start=first)
        )
        told = [Message("tool", text, tool_call_id=call.id) for call, text in zip(calls, results, strict=True)]
        return (*messages, Message("assistant", turn.text, tool_calls=calls), *told)

    @property
    def _names(self) -> dict[str, str]:
        return api_names(self.tools)


def _arguments(call: Call) -> str:
    """Arguments as endpoints take them back: JSON, whatever the model wrote; its mistake is told in the result."""
    return json.dumps(call.arguments if isinstance(call.arguments, dict) else {}, ensure_ascii=False)
