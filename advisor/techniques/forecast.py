"""What a technique is going to ask, told before anything is asked.

Requests are real ones, as the technique would write them; only what models have not written yet is a length.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from advisor.span import NONE, ONCE, Span
from backends.types import ChatRequest, Message
from evals.task import Sample

if TYPE_CHECKING:
    from advisor.techniques.base import Technique

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Prospect:
    """What is known of a run before it begins, besides the task."""

    seed: int
    native_tools: bool
    """Whether the candidate's model takes tools."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that is expected, or several alike."""

    request: ChatRequest
    times: Span = ONCE
    target: bool = True
    """Whether the answer holds one like the train targets."""
    thought: Span = NONE
    """Tokens of the answer beside that: a reasoning, the output of a step, what is around the answer."""
    more: Span = NONE
    """Prompt tokens beside those of `request`: what models write on the way there."""
    on: str | None = None
    """Another model than the candidate's own."""
    at_once: bool = False
    """Whether the several are drawn side by side, so that an endpoint that takes `n` reads the prompt once."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts that are embedded once, whoever asks for it."""

    name: str
    """Two corpora of one name are the same."""
    texts: tuple[str, ...]
    """All of them, or a part that stands for the rest."""
    count: float
    """How many there are."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of answering, every setting settled."""

    name: str
    asks: Callable[[Sample], Sequence[Ask]]
    settled: Technique | None = None
    """The technique with these settings given, whose `fit` has nothing to choose; None where there is no such thing."""
    embeds: bool = False
    """Whether each input is embedded."""
    queries: Span = NONE
    """Further texts, written by a model, that are embedded for each input."""


@dataclass(frozen=True, slots=True)
class Round:
    """Ways tried on samples while fitting."""

    ways: tuple[Way, ...]
    samples: tuple[Sample, ...]
    tried: int
    """How many of the ways are tried; which of them may not be known."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What fitting asks, and how samples will be answered afterwards."""

    ways: tuple[Way, ...]
    """One of them is chosen by fitting; until then each is as likely."""
    rounds: tuple[Round, ...] = ()
    asks: tuple[Ask, ...] = ()
    """What fitting asks beside its rounds."""
    corpora: tuple[Corpus, ...] = ()
    training: tuple[tuple[Message, ...], ...] = ()
    """Conversations that a model is trained on."""

    @property
    def answered(self) -> frozenset[str]:
        """Ids of dev samples that the chosen way has answered when fitting ends."""
        names = {way.name for way in self.ways}
        rounds = [one for one in self.rounds if names & {way.name for way in one.ways}]
        return frozenset(sample.id for one in rounds for sample in one.samples)


def stand_ins(items: Sequence[Item], count: int, sample: Sample, seed: int) -> list[Item]:
    """Items in place of those that a search would find for a sample: as long on average, at no cost."""
    drawn = random.Random(f"{seed}:stand-ins:{sample.id}")
    return drawn.sample(list(items), min(count, len(items)))
