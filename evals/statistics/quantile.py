"""Quantiles of latency with distribution-free intervals."""

from __future__ import annotations

from math import inf

import numpy as np

from evals.statistics.distributions import binomial_cdf
from evals.statistics.types import FloatArray, Interval


def seconds_quantile(seconds: FloatArray, q: float, level: float = 0.95) -> Interval:
    """The q quantile of latencies and its interval from order statistics (David and Nagaraja 2003, section 7.1).

    The number of latencies below the true quantile is Binomial(n, q), whatever their distribution. The limits are
    0 and infinity where n latencies cannot bound the quantile; 72 are the fewest that bound p95 from above at 95 %.

    Args:
        seconds: latencies, shape (n,), n >= 1.
        q: in (0, 1).
        level: confidence; the interval covers at least that often.
    """
    ordered = np.sort(seconds)
    n, tail = len(ordered), (1.0 - level) / 2.0
    counts = binomial_cdf(np.arange(n), n, q)
    # X_(r) > quantile needs fewer than r latencies below it; X_(r) < quantile needs at least r.
    below = np.flatnonzero(counts <= tail)
    above = np.flatnonzero(1.0 - counts <= tail)
    low = float(ordered[below[-1]]) if below.size else 0.0
    high = float(ordered[above[0]]) if above.size else inf
    value = float(ordered[min(int(np.ceil(q * n)) - 1, n - 1)])
    return Interval(value, low, high, f"order statistics, {100 * level:g} %")
