"""What requests to a model will take, told without asking it: no key, no weights, nothing sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from backends.types import ChatRequest, Usage


@dataclass(frozen=True, slots=True)
class Training:
    """What training a model takes."""

    tokens: int
    """Of all training conversations, times epochs."""
    usd: float | None
    seconds: float | None
    billed: bool
    """Whether the dollars leave the house."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """Tokens of an answer that are billed and not shown: what a model reasons before it writes."""

    low: float = 0.0
    expected: float = 0.0
    high: float = 0.0


class Gauge(Protocol):
    """Counts and prices for one model, chat or embedding."""

    @property
    def name(self) -> str:
        """`backend/model`, as the user wrote it."""

    @property
    def billed(self) -> bool:
        """True when a call spends money that leaves the house."""

    @property
    def native_tools(self) -> bool:
        """True when requests may carry `tools`."""

    @property
    def is_remote(self) -> bool:
        """True when a server answers, so that no rate of this machine says how long it takes."""

    @property
    def is_batched(self) -> bool:
        """True when its requests would go in batches, which take minutes to hours."""

    @property
    def draws(self) -> int:
        """Answers to one prompt that one request may ask for, as far as is known; 1 where each is asked for alone."""

    @property
    def caches_from(self) -> int | None:
        """Prompt tokens from which on the provider is known to remember beginnings of prompts; None if it is not."""

    @property
    def unseen(self) -> Unseen:
        """What an answer takes beside its text."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures should know."""

    def prompt_tokens(self, request: ChatRequest) -> int:
        """Tokens of the request as the model reads it, framing, tools and form included."""

    def answer_tokens(self, request: ChatRequest, text: str) -> int:
        """Tokens of this answer to the request, in the form in which it is asked for."""

    def text_tokens(self, text: str) -> int:
        """Tokens of a text by itself."""

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage at today's prices, None when unknown."""

    def bill(self, usage: Usage) -> float | None:
        """Dollars that leave the house for it: the price, or what batches cost where requests go in them."""

    def seconds(self, usage: Usage) -> float | None:
        """Machine time of this usage; None when its rates have not been measured, and for servers."""

    def training(self, tokens: int, examples: int, recipe: Mapping[str, Any]) -> Training | None:
        """What tuning this model on so many examples takes; None when it cannot be tuned or nothing is known.

        Args:
            tokens: Of the examples, once.
            examples: Their number.
            recipe: The tuner's hyperparameters that were given.
        """
