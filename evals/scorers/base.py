"""What every scorer keeps to, and what it raises when an answer cannot be scored at all."""

from __future__ import annotations

from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field

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

Threshold = Annotated[float, Field(gt=0, le=1)]
"""From which value on an answer counts as right, where a graded scorer is to be all or nothing."""


@runtime_checkable
class TargetReader(Protocol):
    """A scorer whose targets are not simply the right answers, or which needs more of a sample than its target."""

    def right_answer(self, sample: Sample) -> str | None:
        """An answer that must score 1, None when none can be made up. Raises ScorerError for an unusable sample."""


def right_answer(scorer: AnyScorer, sample: Sample) -> str | None:
    """An answer that the scorer must score 1: the target, unless the scorer reads targets in its own way."""
    return scorer.right_answer(sample) if isinstance(scorer, TargetReader) else sample.target


def graded(value: float, at_least: float | None, reason: str) -> Score:
    """The value as a score; 1 or 0 when a threshold says from where on an answer counts as right.

    Rounded to nine decimals first, so that what floating point leaves of a perfect match is 1.
    """
    value = min(1.0, max(0.0, round(value, 9)))
    if at_least is None:
        return Score(value, reason)
    right = value >= at_least
    return Score(float(right), f"{reason}: {'at least' if right else 'below'} {at_least:g}")


class ScorerError(Exception):
    """An answer could not be scored. The runner records it as a failed trial, never as a wrong answer."""


def shorten(text: str, limit: int = 60) -> str:
    """The text in one line and in quotes, cut to `limit` characters, for reasons."""
    line = " ".join(text.split())
    return repr(line if len(line) <= limit else line[: limit - 1] + "…")
