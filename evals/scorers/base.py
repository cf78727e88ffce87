"""What every scorer keeps to, and what it raises when an answer cannot be scored at all."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from backends.meter import Meter
from evals.task import Sample
from evals.trial import Score


class Scorer(Protocol):
    """Judges one answer of one sample.

    Higher is better, the value lies in [0, 1], and the same answer to the same sample always scores the same.
    A wrong or unreadable answer is a low score. ScorerError is for what is no fault of the answer: a target the
    scorer cannot use, or the user's own scoring function failing.
    """

    @property
    def name(self) -> str:
        """The name a scenario asks for it by."""

    @property
    def binary(self) -> bool:
        """True when every value is 0 or 1, which allows the exact binomial tests."""

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer; `reason` is one line a person can check the value by."""


@runtime_checkable
class ModelScorer(Protocol):
    """A scorer that asks models: embeddings, a judge. What it asks counts as evaluation, never as serving."""

    @property
    def name(self) -> str:
        """The name a scenario asks for it by."""

    @property
    def binary(self) -> bool:
        """True when every value is 0 or 1."""

    @property
    def asks(self) -> str | None:
        """The chat model it asks, None when it asks none."""

    @property
    def embeds(self) -> bool:
        """Whether it asks for embeddings."""

    async def score(self, output: str, sample: Sample, models: Meter) -> Score:
        """Score the answer. Raises ScorerError as Scorer does, RequestError when a model refuses."""


AnyScorer = Scorer | ModelScorer


class ScorerError(Exception):
    """An answer could not be scored. The runner records it as a failed trial, never as a wrong answer."""


def shorten(text: str, limit: int = 60) -> str:
    """The text in one line and in quotes, cut to `limit` characters, for reasons."""
    line = " ".join(text.split())
    return repr(line if len(line) <= limit else line[: limit - 1] + "…")
