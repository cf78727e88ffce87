"""Betting e-processes and confidence sequences for the mean of scores in [0, 1].

A gambler who bets on every score that the mean exceeds m has capital prod_i (1 + lambda (x_i - m)); when the mean is
at most m the capital is a nonnegative supermartingale, and so is its average over a grid of bets lambda. By Ville's
inequality it ever reaches 1/alpha with probability at most alpha, whatever the distribution and however often one
looks (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", sections 3 and 4).

Units are independent observations: samples, or clusters of samples. A cluster's score is the mean of its samples and
its bet is scaled by its size over the largest size, which makes the claim one about the mean over samples:
E[size (score - m)] <= 0 is the null hypothesis, and 0 < weight <= 1 keeps the capital nonnegative.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from evals.statistics.types import FloatArray, Interval

BETS = 10
SMALLEST_BET = 0.1
LARGEST_FRACTION = 0.95
"""Of the largest bet that cannot ruin; a grid up to it adapts to small variances."""


def bets(m: float) -> FloatArray:
    """The grid of bets on a mean above m: geometric from 0.1 to 0.95 / m, shape (10,)."""
    return np.geomspace(SMALLEST_BET, LARGEST_FRACTION / m, BETS)


def log_capital(scores: FloatArray, m: float, weights: FloatArray | None = None) -> FloatArray:
    """Log of the mixture capital against H0: mean <= m, after every unit.

    Args:
        scores: unit scores in [0, 1], shape (units,), in the order they were drawn.
        m: the mean under test, in (0, 1).
        weights: unit sizes over the largest size, shape (units,); None for units of one size.

    Returns:
        Shape (units,). At least log(1 / alpha) with probability at most alpha, ever, if the mean is at most m.
    """
    paths = _log_paths(scores, m, weights)
    return np.asarray(logsumexp(paths, axis=0) - np.log(BETS), dtype=np.float64)


def ever_reaches(threshold: float, scores: FloatArray, m: float, weights: FloatArray | None = None) -> bool:
    """Whether `log_capital` is at or above the threshold after some unit, without computing it where bounds do."""
    paths = _log_paths(scores, m, weights)
    best = paths.max(initial=-np.inf)
    if best < threshold:
        return False
    if best - np.log(BETS) >= threshold:
        return True
    return bool(np.max(logsumexp(paths, axis=0) - np.log(BETS)) >= threshold)


def _log_paths(scores: FloatArray, m: float, weights: FloatArray | None) -> FloatArray:
    """Log capital of every bet after every unit, shape (10, units)."""
    gains = (scores - m) if weights is None else weights * (scores - m)
    return np.cumsum(np.log1p(np.multiply.outer(bets(m), gains)), axis=1)


def binary_log_capital(successes: float, n: int, m: float) -> float:
    """Final log capital against H0: mean <= m for 0/1 scores, of which only the count matters."""
    grid = bets(m)
    return float(
        logsumexp(successes * np.log1p(grid * (1.0 - m)) + (n - successes) * np.log1p(-grid * m)) - np.log(BETS)
    )


def binary_confidence_sequence(low: int, high: int, n: int, alpha: float) -> Interval:
    """Anytime-valid interval at level 1 - alpha for 0/1 scores.

    `low` and `high` are the successes among n when failed trials count as 0 and as 1.
    """
    return _sequence(
        low / n,
        lambda m: binary_log_capital(low, n, m),
        lambda m: binary_log_capital(n - high, n, m),
        alpha,
    )


def confidence_sequence(low: FloatArray, high: FloatArray, alpha: float, weights: FloatArray | None = None) -> Interval:
    """Anytime-valid interval at level 1 - alpha for scores in [0, 1].

    Args:
        low: unit scores with failed trials as 0, shape (units,); they make the estimate and the lower limit.
        high: the same with failed trials as 1; they make the upper limit.
        alpha: probability that the interval ever misses the mean.
        weights: as for `log_capital`.
    """
    return _sequence(
        float(np.average(low, weights=weights)),
        lambda m: float(log_capital(low, m, weights)[-1]),
        lambda m: float(log_capital(1.0 - high, m, weights)[-1]),
        alpha,
    )


def lower_confidence_bound(scores: FloatArray, alpha: float, weights: FloatArray | None = None) -> float:
    """One-sided anytime-valid lower bound on the mean at level 1 - alpha."""
    return _limit(lambda m: float(log_capital(scores, m, weights)[-1]), float(np.log(1.0 / alpha)))


def _sequence(
    value: float, capital: Callable[[float], float], capital_below: Callable[[float], float], alpha: float
) -> Interval:
    """All means that neither of two gamblers, each with half of alpha, has refuted."""
    threshold = float(np.log(2.0 / alpha))
    low, high = _limit(capital, threshold), 1.0 - _limit(capital_below, threshold)
    return Interval(value, min(low, value), max(high, value), f"confidence sequence, {100 * (1.0 - alpha):.4g} %")


def _limit(capital: Callable[[float], float], threshold: float) -> float:
    """The largest mean at which capital, which falls in the mean, reaches the threshold; 0 when none does.

    Every factor falls in m also where the grid of bets moves with m: with lambda = 0.1^(1-w) (0.95/m)^w,
    d/dm lambda (x - m) = -lambda (w x / m + 1 - w) <= 0.
    """
    low, high = 1e-6, 1.0 - 1e-6
    if capital(low) < threshold:
        return 0.0
    while high - low > 1e-5:
        middle = (low + high) / 2.0
        low, high = (middle, high) if capital(middle) >= threshold else (low, middle)
    return low
