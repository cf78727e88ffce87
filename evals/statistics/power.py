"""How much test data a question needs, and which question the test data can answer."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, sqrt

import numpy as np

from evals.statistics.boundaries import design
from evals.statistics.distributions import binomial_isf, binomial_sf, normal_isf
from evals.statistics.operating import operating

LARGEST = 1_000_000
"""More samples than this are reported as None: no eval set is that large."""
LARGEST_DESIGNED = 5_000
"""Above this, boundaries are not designed to count samples; the sequential test needs a fifth more than the fixed."""


@lru_cache(maxsize=4096)
def fixed_samples(target: float, difference: float, alpha: float, power: float) -> int | None:
    """Samples from which on the exact binomial test has this power at target + difference; None above a million.

    Power is a sawtooth in n; the answer is the n behind its last dip below `power`, sought around the normal
    approximation (z_a sqrt(p (1 - p)) + z_b sqrt(p1 (1 - p1)))^2 / d^2.
    """
    mean = target + difference
    if difference <= 0.0 or mean > 1.0:
        return None
    z_alpha, z_power = normal_isf(alpha), normal_isf(1.0 - power)
    spread = z_alpha * sqrt(target * (1.0 - target)) + z_power * sqrt(mean * (1.0 - mean))
    guess = (spread / difference) ** 2
    if guess > LARGEST:
        return None
    n = np.arange(max(1, int(0.7 * guess) - 20), int(1.4 * guess) + 400)
    short = np.flatnonzero(binomial_sf(binomial_isf(alpha, n, target), n, mean) < power)
    return int(n[short[-1]]) + 1 if short.size else int(n[0])


def sequential_power(n: int, target: float, margin: float, alpha: float) -> float:
    """P(certify) of the group-sequential test of n samples, designed for this margin, at target + margin."""
    return operating(design(n, target, margin, alpha), target + margin).certified


@lru_cache(maxsize=1024)
def resolvable_margin(n: int, target: float, alpha: float, power: float = 0.9) -> float | None:
    """The smallest margin above the target at which n samples certify with this power, to 0.0005.

    None when not even perfect scores are certified with that power.
    """
    low, high = 0.0, 1.0 - target
    if sequential_power(n, target, high, alpha) < power:
        return None
    while high - low > 5e-4:
        middle = (low + high) / 2.0
        low, high = (low, middle) if sequential_power(n, target, middle, alpha) >= power else (middle, high)
    return high


@lru_cache(maxsize=1024)
def required_samples(target: float, margin: float, alpha: float, power: float = 0.9) -> int | None:
    """Samples with which the group-sequential test certifies target + margin with this power; None above a million.

    The fixed test's number, raised in steps of 2 % until the sequential test has the power; so precise to 2 %.
    """
    n = fixed_samples(target, margin, alpha, power)
    while n is not None and n <= LARGEST_DESIGNED and sequential_power(n, target, margin, alpha) < power:
        n = ceil(1.02 * n)
    if n is not None and n > LARGEST_DESIGNED:
        fixed = fixed_samples(target, margin, alpha, power)
        n = None if fixed is None else max(n, ceil(1.2 * fixed))
    return n
