"""Limits besides quality, each a sequential test of its own: p95 seconds and dollars per 1,000 requests.

A candidate is certified only if every test certifies at its own full alpha (intersection-union test, Berger 1982),
and eliminated if any eliminates, for which beta is split.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from evals.statistics.distributions import student_isf
from evals.statistics.sequential import make_test
from evals.statistics.types import FloatArray, SequentialTest, Status

QUANTILE = 0.95
MARGIN = 0.03
"""A candidate that answers 98 % of requests in time must not be missed."""


@dataclass(frozen=True)
class SecondsLimit:
    """At least 95 % of requests take at most `limit` seconds: an exact test of the share that does."""

    limit: float
    test: SequentialTest

    @property
    def provable(self) -> bool:
        """Whether there are enough samples to prove a 95th percentile at this level."""
        return self.test.attainable

    def decide(self, seconds: FloatArray) -> Status:
        """The status after the first n requests, seconds of shape (n,).

        Where no number of fast requests could prove the limit, the measured share decides instead.
        """
        fast = (seconds <= self.limit).astype(np.float64)
        status = self.test.decide(fast)
        if self.provable or status is Status.ELIMINATED:
            return status
        if fast.mean() >= QUANTILE:
            return Status.CERTIFIED
        return Status.UNRESOLVED if len(seconds) == self.test.looks[-1] else Status.CONTINUE


def seconds_limit(
    limit: float,
    n: int,
    alpha: float,
    *,
    beta: float,
    gamma: float,
    groups: Sequence[Hashable | None] | None = None,
) -> SecondsLimit:
    """The test of a p95 limit in seconds; arguments as for `make_test`."""
    test = make_test(n, QUANTILE, MARGIN, alpha, beta=beta, gamma=gamma, binary=True, groups=groups)
    return SecondsLimit(limit, test)


@dataclass(frozen=True)
class DollarLimit:
    """The mean cost of 1,000 requests is at most `limit` dollars.

    Costs have no upper bound, so no exact nonparametric test of their mean exists (Bahadur and Savage 1956). The test
    is Student's t, corrected for skewness, with its level split over the looks; costs vary little, so the split costs
    few samples. Simulated over 24 looks at nominal 0.00625 it certified a mean at the limit in 0.4 to 0.5 % of runs
    with gamma costs of skewness up to 1, and in 0.9 % with exponential ones.
    """

    limit: float
    looks: tuple[int, ...]
    alpha: float
    beta: float

    def decide(self, cost_usd: FloatArray) -> Status:
        """The status after the first n requests, dollars per request of shape (n,)."""
        n, looks = len(cost_usd), len(self.looks)
        # Rounding of equal costs must not decide.
        limit = self.limit * (1.0 + 1e-9) / 1000.0
        if n > 1 and mean_bound(cost_usd, -student_isf(self.alpha / looks, n - 1)) <= limit:
            return Status.CERTIFIED
        if n > 1 and mean_bound(cost_usd, student_isf(self.beta / looks, n - 1)) > limit:
            return Status.ELIMINATED
        return Status.UNRESOLVED if n == self.looks[-1] else Status.CONTINUE


def mean_bound(values: FloatArray, t: float) -> float:
    """Confidence bound on the mean of skewed values, shape (n,): a lower one for positive t, an upper for negative.

    With W = (sample mean - mean) / s, sqrt(n) (W + g W^2 / 3 + g^2 W^3 / 27 + g / (6 n)) is nearly Student's T, where
    g is the skewness (Hall 1992, "On the removal of skewness by transformation"); the bound inverts it at t.
    """
    n, mean, spread = len(values), float(values.mean()), float(values.std(ddof=1))
    if spread <= 1e-12 * abs(mean):
        return mean
    skewness = float(((values - mean) ** 3).mean()) / spread**3
    reach = t / np.sqrt(n)
    if abs(skewness) > 1e-6:
        reach = 3.0 / skewness * (np.cbrt(1.0 + skewness * (reach - skewness / (6.0 * n))) - 1.0)
    return mean - spread * float(reach)
