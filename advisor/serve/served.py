"""What is behind the endpoint: a fitted candidate with its prompts, or a bare model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from advisor.serve.winner import Winner
from advisor.techniques.base import Fitted
from backends import registry as backends
from backends.errors import RequestError
from backends.meter import Helpers, Meter
from backends.types import ChatModel, ChatRequest, ChatResponse, Message, Reranker
from evals.task import Sample


class Served(Protocol):
    """One model of the endpoint."""

    @property
    def name(self) -> str:
        """What clients call it."""

    async def answer(self, request: ChatRequest) -> ChatResponse:
        """Answer a conversation. Raises RequestError for one that cannot be answered."""

    async def aclose(self) -> None:
        """Let go of models."""


@dataclass(frozen=True, slots=True)
class BareModel:
    """A model that answers what it is asked, as it is asked."""

    chat: ChatModel

    @property
    def name(self) -> str:
        """Its own name."""
        return self.chat.name

    async def answer(self, request: ChatRequest) -> ChatResponse:
        """Pass the request on."""
        if request.tools and not self.chat.native_tools:
            raise RequestError(f"{self.chat.name} takes no tools")
        return await self.chat.complete(request)

    async def aclose(self) -> None:
        """Close the model."""
        await self.chat.aclose()


class FittedCandidate:
    """A fitted candidate: the last user message is a sample's input, the prompts around it are its own."""

    def __init__(self, winner: Winner, fitted: Fitted) -> None:
        self._winner = winner
        self._fitted = fitted
        self._settings = backends.Settings(usd_per_hour=winner.usd_per_hour)
        name, folder = fitted.tuned or (winner.model, None)
        self._chat = backends.open_chat(name, self._settings, folder)
        self._others: dict[str, ChatModel] = {}
        self._rerankers: dict[str, Reranker] = {}
        embedder = None if winner.embedder is None else backends.open_embedder(winner.embedder, self._settings)
        self._helpers = Helpers(embedder, self._other, self._reranker)

    @property
    def name(self) -> str:
        """The scenario's name."""
        return self._winner.scenario

    async def answer(self, request: ChatRequest) -> ChatResponse:
        """Solve the input as the run's trials did; limits and temperature are the candidate's, not the client's."""
        meter = Meter(self._chat, helpers=self._helpers)
        text = await self._fitted.solve(Sample("served", task_input(request.messages), target=""), meter)
        return ChatResponse(text, meter.usage, meter.seconds)

    async def aclose(self) -> None:
        """Close all models."""
        for one in (self._chat, *self._others.values(), *self._rerankers.values(), self._helpers.embedder):
            if one is not None:
                await one.aclose()

    def _other(self, name: str) -> ChatModel:
        if name not in self._others:
            self._others[name] = backends.open_chat(name, self._settings)
        return self._others[name]

    def _reranker(self, name: str) -> Reranker:
        if name not in self._rerankers:
            self._rerankers[name] = backends.open_reranker(name, self._settings)
        return self._rerankers[name]


def task_input(messages: Sequence[Message]) -> str:
    """The one user message of a conversation. A client's own instructions are left out: the candidate has its own.

    Raises RequestError for a conversation of several turns, which the candidate was never tested on.
    """
    turns = [message for message in messages if message.role != "system"]
    if len(turns) != 1 or turns[0].role != "user":
        raise RequestError("this endpoint answers single inputs: send exactly one user message")
    return turns[0].content
