"""What a candidate's trials say about one request in production: tokens, dollars, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backends.types import Usage
from evals.trial import Trial


@dataclass(frozen=True, slots=True)
class Serving:
    """Per answered request, what failed trials used included: their cost was real. Unknown is None."""

    n: int
    errors: int
    score: float | None
    """Mean over trials that have one."""
    input_tokens: float | None
    cached_tokens: float | None
    output_tokens: float | None
    usd_per_1k_requests: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    p50_first_token_seconds: float | None = None
    """Until an answer begins, over the trials that tell; None where none does."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one named part of a request takes, on average over all answered requests. Unknown is None."""

    name: str
    share: float
    """Of requests that take this step at all."""
    input_tokens: float
    output_tokens: float
    usd_per_1k_requests: float | None
    seconds: float


def step_costs(trials: Sequence[Trial]) -> tuple[StepCost, ...]:
    """Cost of each step over trials that were answered, in the order in which steps are first met."""
    answered = [trial for trial in trials if trial.error is None]
    names = dict.fromkeys(step.name for trial in answered for step in trial.steps)
    return tuple(_step_cost(name, answered) for name in names)


def _step_cost(name: str, answered: Sequence[Trial]) -> StepCost:
    found = [step for trial in answered for step in trial.steps if step.name == name]
    total = sum((step.usage for step in found), Usage())
    n = len(answered)
    return StepCost(
        name=name,
        share=sum(any(step.name == name for step in trial.steps) for trial in answered) / n,
        input_tokens=total.input_tokens / n,
        output_tokens=total.output_tokens / n,
        usd_per_1k_requests=None if total.cost_usd is None else 1000 * total.cost_usd / n,
        seconds=sum(step.seconds for step in found) / n,
    )


def serving(trials: Sequence[Trial]) -> Serving:
    """Summarise trials; where none was answered, everything but the counts is unknown."""
    answered = [trial for trial in trials if trial.error is None]
    scores = [trial.score.value for trial in trials if trial.score is not None]
    # Of answers that came in a batch nobody knows how long a user would have waited.
    seconds = [trial.seconds for trial in answered if trial.seconds]
    firsts = [trial.first_token_seconds for trial in answered if trial.first_token_seconds is not None]
    total = sum((trial.usage for trial in trials), Usage())

    def each(figure: float | None) -> float | None:
        return figure / len(answered) if answered and figure is not None else None

    return Serving(
        n=len(trials),
        errors=len(trials) - len(answered),
        score=float(np.mean(scores)) if scores else None,
        input_tokens=each(total.input_tokens),
        cached_tokens=each(total.cached_tokens),
        output_tokens=each(total.output_tokens),
        usd_per_1k_requests=None if total.cost_usd is None else each(1000 * total.cost_usd),
        p50_seconds=float(np.quantile(seconds, 0.50)) if seconds else None,
        p95_seconds=float(np.quantile(seconds, 0.95)) if seconds else None,
        p50_first_token_seconds=float(np.median(firsts)) if firsts else None,
    )
