"""A meter around the models one piece of work may call, so that a failure after two calls has still paid for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from backends.errors import RequestError
from backends.types import (
    ChatModel,
    ChatRequest,
    ChatResponse,
    Embedder,
    FloatArray,
    Reranker,
    Usage,
    request_key,
)

REPETITION = 1000
"""Repetitions of a trial are so far apart in the numbers of their requests: a technique numbers its own below that."""


@dataclass(frozen=True, slots=True)
class Step:
    """A named part of the work: what it gave and what it took."""

    name: str
    output: str
    usage: Usage
    seconds: float


@dataclass(slots=True)
class OpenStep:
    """A step under way; whoever opened it sets `output`."""

    name: str
    output: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    def closed(self) -> Step:
        """The step as it is remembered."""
        return Step(self.name, self.output, self.usage, self.seconds)


@dataclass(frozen=True, slots=True)
class Helpers:
    """Models beside the candidate's own that a piece of work may ask."""

    embedder: Embedder | None = None
    chat: Callable[[str], ChatModel] | None = None
    """Opens another chat model by name."""
    reranker: Callable[[str], Reranker] | None = None
    """Opens a cross-encoder by name."""


class Meter:
    """The models a technique sees. Every call is counted here and nowhere else.

    One meter serves one trial or one fit; it is never shared between two.
    """

    def __init__(
        self,
        chat: ChatModel,
        embedder: Embedder | None = None,
        repeat: int = 0,
        helpers: Helpers | None = None,
        rewrite: Callable[[ChatRequest], ChatRequest] | None = None,
    ) -> None:
        self._chat = chat
        self._helpers = helpers or Helpers(embedder)
        self._repeat = repeat
        self._rewrite = rewrite
        self.usage = Usage()
        self.seconds = 0.0
        """Model seconds, in the order the calls depended on each other; 0 when one of them cannot be told."""
        self.first_token_seconds: float | None = None
        """Seconds until the answer of the last call began; None where that cannot be told."""
        self._is_timed = True
        self.cached_requests = 0
        self.response_keys: list[str] = []
        self.steps: list[Step] = []
        """Steps that are finished, in order."""
        self._open: list[OpenStep] = []

    @property
    def chat(self) -> ChatModel:
        """The candidate's own model, for work that is metered apart. Never ask it directly."""
        return self._chat

    def worst_usd(self, request: ChatRequest, on: str | None = None) -> float | None:
        """Dollars this request can cost at most; None when the price is not known."""
        model = self._model(on)
        return model.price(model.worst_case(self._rewritten(request)))

    def native_tools(self, on: str | None = None) -> bool:
        """Whether the model takes requests with tools."""
        return self._model(on).native_tools

    async def complete(self, request: ChatRequest, on: str | None = None) -> ChatResponse:
        """Ask the candidate's chat model, or the one named by `on`."""
        (response,) = await self.complete_all([request], on)
        return response

    async def complete_all(self, requests: Sequence[ChatRequest], on: str | None = None) -> list[ChatResponse]:
        """Ask side by side: the seconds are those of the slowest. All are counted, also when one of them fails."""
        model = self._model(on)
        asked = [self._rewritten(request) for request in requests]
        found = await _side_by_side([model.complete(request) for request in asked])
        answered = [one for one in found if isinstance(one, ChatResponse)]
        for request, response in zip(asked, found, strict=True):
            if isinstance(response, ChatResponse):
                self._count(response.usage, 0.0, response.cached)
                self.response_keys.append(request_key(model.fingerprint, request))
            elif isinstance(response, RequestError):
                self._count(response.usage, 0.0, False)
        self._time(answered)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return answered

    async def embed(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts with the scenario's embedder; shape (texts, dimension), unit length."""
        if self._helpers.embedder is None:
            raise RequestError("this candidate needs an embedding model and the scenario opened none")
        found = await self._helpers.embedder.embed(texts)
        self._count(found.usage, found.seconds, found.cached)
        return found.vectors

    @property
    def embedder_fingerprint(self) -> str:
        """Names the vectors that `embed` gives; an index made of other vectors is of no use."""
        return "" if self._helpers.embedder is None else self._helpers.embedder.fingerprint

    async def rerank(self, query: str, texts: Sequence[str], on: str) -> tuple[float, ...]:
        """Score texts against a query with the cross-encoder named by `on`; higher is better."""
        if self._helpers.reranker is None:
            raise RequestError(f"the cross-encoder {on} was not opened")
        found = await self._helpers.reranker(on).rerank(query, texts)
        self._count(found.usage, found.seconds, False)
        return found.scores

    def spend_seconds(self, seconds: float) -> None:
        """Count time that no model took: a tool's, a search's."""
        self.seconds += seconds if self._is_timed else 0.0
        if self._open:
            self._open[-1].seconds += seconds

    @contextmanager
    def step(self, name: str) -> Iterator[OpenStep]:
        """Count what is asked within also under this step; it is remembered when it fails, too.

        Steps may contain steps (the innermost counts) but not run side by side.
        """
        begun = OpenStep(name)
        self._open.append(begun)
        try:
            yield begun
        finally:
            self._open.pop()
            self.steps.append(begun.closed())

    def _time(self, answered: Sequence[ChatResponse]) -> None:
        """Count the seconds of answers asked for side by side."""
        if any(response.usage.requests and not response.seconds for response in answered):
            self._is_timed = False
            self.seconds, self.first_token_seconds = 0.0, None
        if not self._is_timed:
            return
        first = answered[0].first_token_seconds if len(answered) == 1 else None
        self.first_token_seconds = None if first is None else self.seconds + first
        self.spend_seconds(max((response.seconds for response in answered), default=0.0))

    def _model(self, on: str | None) -> ChatModel:
        if on is None or on == self._chat.name:
            return self._chat
        if self._helpers.chat is None:
            raise RequestError(f"the model {on} was not opened")
        return self._helpers.chat(on)

    def _rewritten(self, request: ChatRequest) -> ChatRequest:
        # A technique that asks the same several times numbers its requests; repetitions of a trial go beyond those.
        if self._repeat:
            request = replace(request, repeat=request.repeat + REPETITION * self._repeat)
        return request if self._rewrite is None else self._rewrite(request)

    def _count(self, usage: Usage, seconds: float, cached: bool) -> None:
        self.usage += usage
        self.cached_requests += usage.requests if cached else 0
        if self._open:
            self._open[-1].usage += usage
        self.spend_seconds(seconds)


async def _side_by_side(calls: Sequence[Coroutine[Any, Any, ChatResponse]]) -> list[ChatResponse | BaseException]:
    """What each gives or raises. One alone needs no task of its own."""
    if len(calls) != 1:
        return await asyncio.gather(*calls, return_exceptions=True)
    try:
        return [await calls[0]]
    except Exception as error:
        return [error]
