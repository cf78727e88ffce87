"""Two candidates on the same samples: exact paired tests and the interval of the difference.

Comparing sample by sample removes the difficulty of the samples from the error (Miller 2024, section 4).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from evals.statistics.distributions import binomial_cdf, normal_isf, student_isf
from evals.statistics.graded import Units, units_of
from evals.statistics.types import FloatArray

EXACT_UP_TO = 14
"""Differing units up to which all sign flips are enumerated."""
FLIPS = 9999
BATCH = 4_000_000
"""Random signs held at once; bounds memory to some 30 MB."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Mean difference first minus second over the samples that both answered."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided, of no difference."""
    n: int
    """Samples both answered."""
    method: str


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided exact p-value that two proportions are equal, from the counts of discordant pairs (McNemar 1947)."""
    discordant = first_only + second_only
    return min(1.0, 2.0 * float(binomial_cdf(min(first_only, second_only), discordant, 0.5))) if discordant else 1.0


def paired_permutation(differences: FloatArray, seed: int) -> float:
    """Two-sided p-value that paired differences, shape (units,), are symmetric about zero, by flipping their signs.

    All flips are enumerated for up to 14 differing units; else 9,999 random ones, of which the observed is counted as
    one more, so that the p-value is valid (Phipson and Smyth 2010).
    """
    values = differences[differences != 0.0]
    if not values.size:
        return 1.0
    observed = abs(float(values.sum())) * (1.0 - 1e-12)
    if len(values) <= EXACT_UP_TO:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
        return float(np.mean(np.abs(signs @ values) >= observed))
    rng = np.random.default_rng(seed)
    extreme, left = 1, FLIPS
    while left:
        rows = min(left, max(1, BATCH // len(values)))
        flips = rng.integers(0, 2, size=(rows, len(values)), dtype=np.int8)
        extreme += int(np.count_nonzero(np.abs(values.sum() - 2.0 * (flips @ values)) >= observed))
        left -= rows
    return extreme / (FLIPS + 1)


def compare_pair(
    first: FloatArray,
    second: FloatArray,
    *,
    seed: int,
    level: float = 0.95,
    groups: Sequence[Hashable | None] | None = None,
) -> Paired:
    """Compare two candidates on the same samples.

    Args:
        first: scores in [0, 1], shape (n,), NaN where the trial failed; such samples are left out of the comparison.
        second: the same of the other candidate, in the same order.
        seed: of the sign flips.
        level: confidence of the interval of the difference.
        groups: clusters of the samples, one entry each, or None; clusters are flipped and resolved as wholes.

    Returns:
        For independent 0/1 scores exact McNemar and the adjusted Wald interval of Bonett and Price (2012); else sign
        flips and Student's interval with cluster-robust error.

    Raises:
        ValueError: different lengths.
    """
    if first.shape != second.shape:
        raise ValueError(f"paired scores have one length, got {len(first)} and {len(second)}")
    both = ~(np.isnan(first) | np.isnan(second))
    groups = None if groups is None else [group for group, keep in zip(groups, both, strict=True) if keep]
    first, second = first[both], second[both]
    n = len(first)
    if n == 0:
        return Paired(0.0, -1.0, 1.0, 1.0, 0, "no sample answered by both")
    units = units_of(n, groups)
    if len(units.complete_at) == n and np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all():
        return _binary(first, second, level)
    return _graded(first - second, units, level, seed)


def _binary(first: FloatArray, second: FloatArray, level: float) -> Paired:
    n = len(first)
    ahead, behind = int(np.count_nonzero(first > second)), int(np.count_nonzero(first < second))
    # Bonett and Price add one to each discordant count, so that no discordant pair does not mean no uncertainty.
    p10, p01 = (ahead + 1.0) / (n + 2.0), (behind + 1.0) / (n + 2.0)
    reach = normal_isf((1.0 - level) / 2.0) * np.sqrt((p10 + p01 - (p10 - p01) ** 2) / (n + 2.0))
    difference = (ahead - behind) / n
    low, high = max(p10 - p01 - reach, -1.0), min(p10 - p01 + reach, 1.0)
    return Paired(difference, low, high, mcnemar_exact(ahead, behind), n, "exact McNemar, Bonett-Price interval")


def _graded(differences: FloatArray, units: Units, level: float, seed: int) -> Paired:
    n, count = len(differences), len(units.complete_at)
    mean = float(differences.mean())
    p_value = paired_permutation(units.sums(differences), seed)
    if count < 2:
        return Paired(mean, -1.0, 1.0, p_value, n, "one unit, no interval")
    centred = units.sums(differences - mean)
    error = np.sqrt(count / (count - 1) * float((centred**2).sum())) / n
    reach = student_isf((1.0 - level) / 2.0, count - 1) * error
    name = "paired permutation, Student interval" + ("" if count == n else f" over {count} clusters")
    return Paired(mean, max(mean - reach, -1.0), min(mean + reach, 1.0), p_value, n, name)
