"""Answers that come in pieces: put together to what they would have been in one, with the time to the first token."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import openai

from backends.openai.failures import Failure, Kind, no_json
from backends.openai.untrusted import MALFORMED, UNREADABLE, read_json

_SAYS = ("content", "refusal", "tool_calls")
"""Fields of a piece that a user gets to see; what is reasoned before them is waiting."""
_CUT = "cut the stream before the answer was complete."


@dataclass(frozen=True, slots=True)
class Streamed:
    """A whole answer, as an endpoint would have sent it in one piece."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    seconds: float
    first_token_seconds: float | None
    """None when the endpoint did not stream, or sent nothing that a user would see."""


@dataclass
class _Pieces:
    """What has come so far of the first choice."""

    message: dict[str, Any] = field(default_factory=lambda: {"role": "assistant", "content": None})
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    tokens: list[Any] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Any = None
    count: int = 0

    def add(self, piece: Mapping[str, Any]) -> bool:
        """Take in a piece; True when it holds something that a user sees. Raises as bad JSON does."""
        self.count += 1
        self.usage = piece.get("usage") or self.usage
        choices = piece.get("choices") or ()
        if not choices:
            return False
        choice = choices[0]
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.tokens += (choice.get("logprobs") or {}).get("content") or []
        delta = choice.get("delta") or {}
        for name in ("content", "refusal"):
            if delta.get(name):
                self.message[name] = (self.message.get(name) or "") + delta[name]
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        return any(delta.get(name) for name in _SAYS)

    def _add_call(self, piece: Mapping[str, Any]) -> None:
        # Some servers send whole calls without an index.
        index = piece.get("index", len(self.calls))
        call = self.calls.setdefault(index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        for name in ("name", "arguments"):
            call["function"][name] += function.get(name) or ""

    def whole(self) -> dict[str, Any]:
        """The answer as one body."""
        message = self.message
        if self.calls:
            message = {**message, "tool_calls": [self.calls[index] for index in sorted(self.calls)]}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        if self.tokens:
            choice["logprobs"] = {"content": self.tokens}
        return {"choices": [choice], "usage": self.usage}


async def streamed(client: openai.AsyncOpenAI, path: str, body: Mapping[str, Any]) -> Streamed | Failure:
    """Ask for an answer in pieces and wait for the last one. Raises what the client raises before the first piece."""
    begun = time.perf_counter()
    # A generic class cannot be written as a type of a parameter; the SDK wants it so.
    stream: Any = await client.post(path, cast_to=object, body=body, stream=True, stream_cls=openai.AsyncStream[object])
    headers = stream.response.headers
    if "event-stream" not in headers.get("content-type", ""):
        return await _unstreamed(stream.response, begun)
    pieces, first = _Pieces(), None
    try:
        async for piece in stream:
            if pieces.add(piece) and first is None:
                first = time.perf_counter() - begun
    except openai.APIConnectionError:
        return _cut(client, pieces)
    except openai.APIError as error:
        # An error of its own in place of a piece: before the first nothing was paid for.
        if pieces.count:
            return _cut(client, pieces, str(error.message))
        return Streamed({"error": error.body or {"message": str(error.message)}}, headers, 0.0, None)
    except MALFORMED:
        return _cut(client, pieces)
    finally:
        await stream.close()
    if pieces.finish_reason is None:
        return _cut(client, pieces)
    return Streamed(pieces.whole(), headers, time.perf_counter() - begun, first)


def _cut(client: openai.AsyncOpenAI, pieces: _Pieces, why: str = "") -> Failure:
    url = str(client.base_url).rstrip("/")
    said = f" It said: {why}" if why else ""
    return Failure(Kind.LOST, f"{url} {_CUT} {pieces.count} pieces had come.{said}")


async def _unstreamed(response: Any, begun: float) -> Streamed | Failure:
    """An endpoint that passes over `stream` answers in one piece."""
    content = await response.aread()
    try:
        body = read_json(content)
    except UNREADABLE:
        return no_json(response.text, str(response.request.url))
    if not isinstance(body, dict):
        return Failure(Kind.BROKEN, f"{response.request.url} answers with JSON that is no object.")
    return Streamed(body, response.headers, time.perf_counter() - begun, None)
