"""What a candidate's trials say about one request in production: tokens, dollars, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.trial import Trial


@dataclass(frozen=True, slots=True)
class Serving:
    """Means over trials, failed ones included: their cost was real. Unknown is None."""

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
    """Summarise trials; with none, everything is unknown."""
    scores = [trial.score.value for trial in trials if trial.score is not None]
    seconds = [trial.seconds for trial in trials if trial.error is None]
    costs = [trial.usage.cost_usd for trial in trials]
    known = [cost for cost in costs if cost is not None]
    return Serving(
        n=len(trials),
        errors=sum(trial.error is not None for trial in trials),
        score=float(np.mean(scores)) if scores else None,
        input_tokens=_mean([trial.usage.input_tokens for trial in trials]),
        cached_tokens=_mean([trial.usage.cached_tokens for trial in trials]),
        output_tokens=_mean([trial.usage.output_tokens for trial in trials]),
        usd_per_1k_requests=1000 * float(np.mean(known)) if known and len(known) == len(costs) else None,
        p50_seconds=float(np.quantile(seconds, 0.50)) if seconds else None,
        p95_seconds=float(np.quantile(seconds, 0.95)) if seconds else None,
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
