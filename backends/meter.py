"""A meter around the models one piece of work may call, so that a failure after two calls has still paid for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from backends.errors import RequestError
from backends.types import ChatModel, ChatRequest, ChatResponse, Embedder, FloatArray, Usage, request_key


class Meter:
    """The models a technique sees. Every call is counted here and nowhere else.

    One meter serves one trial or one fit; it is never shared between two.
    """

    def __init__(self, chat: ChatModel, embedder: Embedder | None = None, repeat: int = 0) -> None:
        self._chat = chat
        self._embedder = embedder
        self._repeat = repeat
        self.usage = Usage()
        self.seconds = 0.0
        """Model seconds of all calls, one after another."""
        self.cached_requests = 0
        self.response_keys: list[str] = []

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Ask the candidate's chat model."""
        request = replace(request, repeat=self._repeat)
        response = await self._chat.complete(request)
        self._count(response.usage, response.seconds, response.cached)
        self.response_keys.append(request_key(self._chat.fingerprint, request))
        return response

    async def embed(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts with the scenario's embedder; shape (texts, dimension), unit length."""
        if self._embedder is None:
            raise RequestError("this candidate needs an embedding model and the scenario opened none")
        found = await self._embedder.embed(texts)
        self._count(found.usage, found.seconds, found.cached)
        return found.vectors

    def _count(self, usage: Usage, seconds: float, cached: bool) -> None:
        self.usage += usage
        self.seconds += seconds
        self.cached_requests += usage.requests if cached else 0
