"""A server on loopback that speaks the OpenAI protocol, counts what it would bill and fails when it is told to."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from backends.openai.tokens import count_text

Json = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What the server does instead of answering rightly."""

    status: int = 200
    body: Json | str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    """Close the connection in the middle of a right answer, which is billed."""
    hang: bool = False
    """Work out a right answer, which is billed, and never send it."""


def error(status: int, message: str, headers: Mapping[str, str] | None = None, **fields: Any) -> Fault:
    """An error as OpenAI writes it."""
    return Fault(
        status, {"error": {"message": message, "type": None, "param": None, "code": None} | fields}, headers or {}
    )


BUSY = error(429, "Rate limit reached.", {"retry-after-ms": "1"}, code="rate_limit_exceeded")
BROKEN = error(500, "The server had an error while processing your request.")
HTML = Fault(200, "<!DOCTYPE html><html><body>Sign in</body></html>")
ERROR_IN_200 = Fault(200, {"error": {"message": "upstream failed", "code": 502}})
CUT = Fault(cut=True)
WRONG_KEY = error(401, "Incorrect API key provided: sk-wrong.", code="invalid_api_key")
NO_MODEL = error(404, "The model `x` does not exist or you do not have access to it.", code="model_not_found")
TOO_LONG = error(
    400,
    "This model's maximum context length is 100 tokens. However, your messages resulted in 900 tokens.",
    code="context_length_exceeded",
    param="messages",
)
FILTERED = error(400, "The response was filtered due to the prompt.", code="content_filter")


@dataclass
class Server:
    """Answers chat and embedding requests; `async with` starts and stops it."""

    answer: Callable[[Json], str | Json] = lambda body: form_answer(body) or body["messages"][-1]["content"]
    """The answer's text, or a whole message."""
    fault: Callable[[int, Json], Fault | None] = lambda number, body: None
    """What to do instead for the request of this number, counted from 0."""
    finish: Callable[[Json], str] = lambda body: "stop"
    usage: bool = True
    """Whether answers tell what they used."""
    usd: tuple[float, float] = (1.0, 2.0)
    """Dollars per million tokens in and out."""
    several: bool = False
    """Whether `n` answers are given; else `n` is passed over. Each is asked of `answer`."""
    latency_seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of right answers."""
    extra: Json = field(default_factory=dict)
    """More fields of right chat answers."""
    vector: Callable[[str], Any] = lambda text: [float(len(text) + 1), 1.0, 2.0]

    def __post_init__(self) -> None:
        self.bodies: list[Json] = []
        self.request_headers: list[dict[str, str]] = []
        self.answered: list[str] = []
        """Each request that was answered rightly."""
        self.billed_usd = 0.0
        self.active = self.most_active = 0

    @property
    def url(self) -> str:
        """The address that a client is given."""
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        self._serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._stopping = asyncio.Event()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._stopping.set()
        for writer in self._serving.values():
            writer.close()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while (request := await _request(reader)) is not None:
                method, path, headers, raw = request
                other = await self.other(method, path, headers, raw)
                if other is not None:
                    await _write(writer, other.status, _text(other.body), other.headers, cut=other.cut)
                    if other.cut:
                        break
                elif not await self._reply(path, headers, json.loads(raw or b"{}"), writer):
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        del self._serving[task]

    async def other(self, method: str, path: str, headers: Mapping[str, str], raw: bytes) -> Fault | None:
        """What to answer to requests that are neither chats nor embeddings, None for those; for subclasses."""
        return None

    async def _reply(self, path: str, headers: dict[str, str], body: Json, writer: asyncio.StreamWriter) -> bool:
        number = len(self.bodies)
        self.bodies.append(body)
        self.request_headers.append(headers)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            fault = self.fault(number, body) or Fault()
            await asyncio.sleep(self.latency_seconds)
            status, content, sent = fault.status, fault.body, {**self.headers, **fault.headers}
            if not content:
                content = self._chat(body) if path.endswith("/chat/completions") else self._embeddings(body)
            if fault.hang:
                await self._stopping.wait()
        finally:
            self.active -= 1
        if body.get("stream") and status == 200 and isinstance(content, dict) and "choices" in content:
            sent, content = {"content-type": "text/event-stream", **sent}, self._pieces(content, body)
        await _write(writer, status, _text(content), sent, cut=fault.cut)
        return not fault.cut

    def _chat(self, body: Json) -> Json:
        found = [self.answer(body) for _ in range(body.get("n", 1) if self.several else 1)]
        self.answered.append(json.dumps(body))
        messages = [one if isinstance(one, dict) else {"role": "assistant", "content": one} for one in found]
        text = [(one.get("content") or "") + json.dumps(one.get("tool_calls") or "") for one in messages]
        written = sum(count_text(one, body["model"]) for one in text)
        used = {"prompt_tokens": prompt_tokens(body), "completion_tokens": written}
        self.billed_usd += (used["prompt_tokens"] * self.usd[0] + used["completion_tokens"] * self.usd[1]) / 1e6
        choices = [
            {"index": index, "message": message, "finish_reason": self.finish(body)}
            for index, message in enumerate(messages)
        ]
        reply: Json = {"id": "chatcmpl-1", "object": "chat.completion", "model": body["model"], "choices": choices}
        return reply | ({"usage": used} if self.usage else {}) | self.extra

    def _pieces(self, whole: Json, body: Json) -> str:
        """The answer as events: a role, some characters each, why it ended, and what was used when that is wanted."""
        choice = whole["choices"][0]
        said = {name: value for name, value in choice["message"].items() if name not in {"role", "content"}}
        text = choice["message"].get("content") or ""
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": text[start : start + 4]} for start in range(0, len(text), 4)] + ([said] if said else [])
        events: list[Json] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
        if self.usage and body.get("stream_options", {}).get("include_usage"):
            events.append({"choices": [], "usage": whole["usage"]})
        return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"

    def _embeddings(self, body: Json) -> Json:
        vectors = [self.vector(text) for text in body["input"]]
        if body.get("encoding_format") == "base64":
            vectors = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]
        tokens = sum(count_text(text, body["model"]) for text in body["input"])
        self.billed_usd += tokens * self.usd[0] / 1e6
        rows = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        # Out of order, as the protocol allows.
        return {"object": "list", "data": rows[::-1], "usage": {"prompt_tokens": tokens}} | self.extra


def form_answer(body: Json) -> str | None:
    """The first answer that the request's enum allows, None when it has none."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    allowed = schema.get("properties", {}).get("answer", {}).get("enum")
    return json.dumps({"answer": allowed[0]}) if allowed else None


def prompt_tokens(body: Json) -> int:
    """What OpenAI would count: the messages with their frames, and the text of tools and schema."""
    texts = [str(message.get("content") or "") + message["role"] for message in body["messages"]]
    texts += [json.dumps(message["tool_calls"]) for message in body["messages"] if "tool_calls" in message]
    texts += [json.dumps(body[part], separators=(",", ":")) for part in ("tools",) if part in body]
    texts += [json.dumps(body.get("response_format", {}).get("json_schema", {}).get("schema", ""))]
    return 3 + 3 * len(body["messages"]) + sum(count_text(text, body["model"]) for text in texts)


def _text(content: Json | str) -> str:
    return content if isinstance(content, str) else json.dumps(content)


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    first = await reader.readline()
    if not first:
        return None
    headers = {}
    while (line := (await reader.readline()).decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = first.decode("latin-1").split(" ", 2)
    return method, path, headers, body


async def _write(
    writer: asyncio.StreamWriter, status: int, text: str, headers: Mapping[str, str], *, cut: bool
) -> None:
    content = text.encode("utf-8", "surrogatepass")
    kind = "text/html" if text.startswith("<") else "application/json"
    head = {"content-type": kind, "content-length": str(len(content)), **headers}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    writer.write(content[: len(content) // 2] if cut else content)
    await writer.drain()


@contextlib.contextmanager
def in_thread(server: Server) -> Iterator[Server]:
    """Run the server in a loop of its own, for code that brings its loop along."""
    ready, done = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with server:
            loops.append(asyncio.get_running_loop())
            ready.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loops[0].call_soon_threadsafe(done.set)
        thread.join()
