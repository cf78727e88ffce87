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


def serving(trials: Sequence[Trial]) -> Serving:
    """Summarise trials; where none was answered, everything but the counts is unknown."""
    answered = [trial for trial in trials if trial.error is None]
    scores = [trial.score.value for trial in trials if trial.score is not None]
    seconds = [trial.seconds for trial in answered]
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
    )
