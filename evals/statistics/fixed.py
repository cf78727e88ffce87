"""One test of a mean against the target after a fixed number of samples, for `compare`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest

from evals.statistics.betting import confidence_sequence, lower_confidence_bound
from evals.statistics.graded import units_of
from evals.statistics.types import FloatArray, Interval


@dataclass(frozen=True, slots=True)
class FixedTest:
    """What all samples together say about one candidate."""

    certified: bool
    """The mean reaches the target, at level alpha."""
    eliminated: bool
    """The mean stays below target plus margin, at level beta, and does not look to reach the target either.

    The second condition keeps a candidate open that more samples may certify; it can only lower the error below beta.
    """
    at_least: float
    """One-sided lower bound at level alpha."""
    interval: Interval
    """Two-sided at level 1 - alpha, so that the intervals of a whole family hold together."""


def fixed_test(
    scores: FloatArray,
    target: float,
    margin: float,
    alpha: float,
    beta: float,
    *,
    binary: bool,
    groups: Sequence[Hashable | None] | None = None,
) -> FixedTest:
    """Judge scores of shape (n,); NaN is a failed trial, 0 towards certification and 1 towards elimination.

    Exact binomial (Clopper and Pearson 1934) for independent 0/1 scores, else the betting confidence sequence
    (Waudby-Smith and Ramdas 2024), which also holds for cluster means.
    """
    low, high = np.nan_to_num(scores, nan=0.0), np.nan_to_num(scores, nan=1.0)
    units = units_of(len(scores), groups)
    answered = scores[~np.isnan(scores)]
    mean = float(answered.mean()) if answered.size else 0.0
    if binary and len(units.complete_at) == len(scores):
        at_least = _bound(low, 1.0 - alpha, "greater")
        at_most = _bound(high, 1.0 - beta, "less")
        interval = Interval(
            mean,
            _bound(low, 1.0 - alpha / 2.0, "greater"),
            _bound(high, 1.0 - alpha / 2.0, "less"),
            f"Clopper-Pearson, simultaneous, {100 * (1 - alpha):.3g} % each",
        )
    else:
        lows, highs = units.means(low, 0.0), units.means(high, 1.0)
        at_least = lower_confidence_bound(lows, alpha, units.weights)
        at_most = 1.0 - lower_confidence_bound(1.0 - highs, beta, units.weights)
        found = confidence_sequence(lows, highs, alpha, units.weights)
        interval = Interval(mean, found.low, found.high, found.method)
    eliminated = at_most < target + margin and float(high.mean()) < target
    return FixedTest(at_least >= target, eliminated, at_least, interval)


def _bound(scores: FloatArray, level: float, alternative: Literal["greater", "less"]) -> float:
    """One-sided Clopper-Pearson limit: the lower one for `greater`, the upper one for `less`."""
    found = binomtest(int(scores.sum()), len(scores), alternative=alternative).proportion_ci(level, method="exact")
    return float(found.low if alternative == "greater" else found.high)
