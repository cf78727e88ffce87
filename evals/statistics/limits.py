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
    is Student's t with its level split over the looks; costs vary little, so the split costs few samples.
    """

    limit: float
    looks: tuple[int, ...]
    alpha: float
    beta: float

    def decide(self, cost_usd: FloatArray) -> Status:
        """The status after the first n requests, dollars per request of shape (n,)."""
        n = len(cost_usd)
        mean = 1000.0 * float(cost_usd.mean())
        error = 1000.0 * float(cost_usd.std(ddof=1)) / np.sqrt(n) if n > 1 else np.inf
        shares = len(self.looks)
        if mean + student_isf(self.alpha / shares, max(n - 1, 1)) * error <= self.limit:
            return Status.CERTIFIED
        if mean - student_isf(self.beta / shares, max(n - 1, 1)) * error > self.limit:
            return Status.ELIMINATED
        return Status.UNRESOLVED if n == self.looks[-1] else Status.CONTINUE
