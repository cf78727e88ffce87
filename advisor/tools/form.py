"""What the two ways of asking for calls have in common: the chat protocol's own tools, and a prompted form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from advisor.tools.calls import Call
from backends.types import ChatRequest, ChatResponse, Message

CALL_TOKENS = 512
"""Tokens that a turn may take however short the answers are: calls are longer than labels."""


@dataclass(frozen=True, slots=True)
class Worked:
    """A worked example: an input and the calls it should lead to."""

    input: str
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """What a model said in one turn."""

    calls: tuple[Call, ...] | None
    """Calls it asked for; None when what it wrote is no calls."""
    text: str
    """Its answer, or the words around the calls."""


class Form(Protocol):
    """A conversation about calls."""

    def opening(self, text: str, worked: Sequence[Worked] = ()) -> tuple[Message, ...]:
        """The conversation up to the first turn."""

    def request(self, messages: Sequence[Message], final: bool = False) -> ChatRequest:
        """Ask for the next turn; a final one makes no calls."""

    def read(self, response: ChatResponse) -> Turn:
        """What the model said."""

    def continued(
        self, messages: Sequence[Message], turn: Turn, results: Sequence[str], final: bool
    ) -> tuple[Message, ...]:
        """The conversation after the calls of a turn were made, one result each; `final` when no more can be."""
