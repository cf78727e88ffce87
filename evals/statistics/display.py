"""Intervals for display after a fixed number of samples; decisions use the sequential tests instead.

Wilson is the default for 0/1 scores: its coverage stays near nominal where Wald's falls to 0.78 (n = 30, p = 0.95).
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap

from evals.statistics.betting import confidence_sequence
from evals.statistics.distributions import student_isf
from evals.statistics.graded import Units, units_of
from evals.statistics.types import FloatArray, Interval

FEWEST_FOR_BOOTSTRAP = 100
FEWEST_CLUSTERS = 30
"""Below these, resampling and cluster-robust errors are too optimistic; betting intervals hold for any number."""
REPLICATES = 4999


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927)."""
    result = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return Interval(successes / n, float(result.low), float(result.high), f"Wilson, {100 * level:g} %")


def bca(scores: FloatArray, level: float = 0.95, *, seed: int) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987); scores of shape (n,), not all equal.

    Raises:
        ValueError: fewer than two different scores, which no resampling can tell anything from.
    """
    if len(np.unique(scores)) < 2:
        raise ValueError("a bootstrap needs two different scores")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = bootstrap(
            (scores,),
            np.mean,
            confidence_level=level,
            method="BCa",
            n_resamples=REPLICATES,
            batch=max(1, 2_000_000 // len(scores)),
            rng=np.random.default_rng(seed),
        )
    limits = result.confidence_interval
    return Interval(float(scores.mean()), float(limits.low), float(limits.high), f"BCa bootstrap, {100 * level:g} %")


def clustered(scores: FloatArray, units: Units, level: float = 0.95) -> Interval:
    """Student interval of the mean with the cluster-robust standard error (Liang and Zeger 1986; Miller 2024).

    SE^2 = G / (G - 1) sum_c (sum_{i in c} (x_i - mean))^2 / n^2 over G clusters; scores of shape (n,).
    """
    count, n, mean = len(units.complete_at), len(scores), float(scores.mean())
    sums = units.sums(scores - mean)
    error = np.sqrt(count / (count - 1) * float((sums**2).sum())) / n
    reach = student_isf((1.0 - level) / 2.0, count - 1) * error
    name = f"cluster-robust, {count} clusters, {100 * level:g} %"
    return Interval(mean, max(mean - reach, 0.0), min(mean + reach, 1.0), name)


def score_interval(
    scores: FloatArray, level: float = 0.95, *, seed: int, groups: Sequence[Hashable | None] | None = None
) -> Interval | None:
    """The interval to show for one candidate's mean score after a fixed number of samples.

    Args:
        scores: in [0, 1], shape (n,); NaN, a failed trial, is left out of the mean.
        level: confidence.
        seed: of the bootstrap.
        groups: clusters of the samples, one entry each, or None.

    Returns:
        Wilson for 0/1 scores, BCa for at least 100 graded ones, cluster-robust for at least 30 clusters, a betting
        interval for fewer; None without scores.
    """
    kept = ~np.isnan(scores)
    scores = scores[kept]
    if not scores.size:
        return None
    groups = None if groups is None else [group for group, keep in zip(groups, kept, strict=True) if keep]
    units = units_of(len(scores), groups)
    if len(units.complete_at) < len(scores):
        if len(units.complete_at) >= FEWEST_CLUSTERS and len(np.unique(scores)) > 1:
            return clustered(scores, units, level)
        means = units.means(scores, 0.0)
        return confidence_sequence(means, means, 1.0 - level, units.weights)
    if np.isin(scores, (0.0, 1.0)).all():
        return wilson(int(scores.sum()), len(scores), level)
    if len(scores) >= FEWEST_FOR_BOOTSTRAP and len(np.unique(scores)) > 1:
        return bca(scores, level, seed=seed)
    return confidence_sequence(scores, scores, 1.0 - level)
