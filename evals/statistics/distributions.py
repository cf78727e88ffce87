"""The few distributions the decision needs, from scipy.special.

scipy.stats takes half a second to import, which commands that only check or estimate should not wait for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, bdtrc, bdtrik, gammaln, ndtri, stdtrit, xlog1py, xlogy

from evals.statistics.types import FloatArray


def binomial_pmf(trials: int, p: float | FloatArray) -> FloatArray:
    """P(S = s) for s = 0 ... trials, shape (trials + 1,), or (len(p), trials + 1) for p of shape (len(p),)."""
    s = np.arange(trials + 1)
    log_ways = gammaln(trials + 1) - gammaln(s + 1) - gammaln(trials - s + 1)
    mean = np.asarray(p, dtype=np.float64)[..., None]
    mass = np.exp(log_ways + xlogy(s, mean) + xlog1py(trials - s, -mean))
    return np.asarray(mass / mass.sum(axis=-1, keepdims=True), dtype=np.float64)


def binomial_cdf(s: npt.ArrayLike, n: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """P(S <= s) for S ~ Binomial(n, p); arguments broadcast, 0 <= s <= n."""
    return np.asarray(bdtr(np.asarray(s, dtype=np.float64), np.asarray(n), np.asarray(p)), dtype=np.float64)


def binomial_sf(s: npt.ArrayLike, n: npt.ArrayLike, p: npt.ArrayLike) -> FloatArray:
    """P(S > s) for S ~ Binomial(n, p); arguments broadcast, 0 <= s <= n."""
    return np.asarray(bdtrc(np.asarray(s, dtype=np.float64), np.asarray(n), np.asarray(p)), dtype=np.float64)


def binomial_isf(alpha: float, n: npt.ArrayLike, p: float) -> FloatArray:
    """The smallest s with P(S > s) <= alpha, for S ~ Binomial(n, p)."""
    guess = np.ceil(bdtrik(1.0 - alpha, np.asarray(n, dtype=np.float64), p))
    below = np.maximum(guess - 1.0, 0.0)
    return np.where(binomial_sf(below, n, p) <= alpha, below, guess)


def normal_isf(tail: float) -> float:
    """Z with P(Z > z) = tail."""
    return float(-ndtri(tail))


def student_isf(tail: float, freedom: float) -> float:
    """T with P(T > t) = tail, for Student's T with this many degrees of freedom."""
    return float(-stdtrit(freedom, tail))
