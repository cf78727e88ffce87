"""Exact group-sequential boundaries for 0/1 scores and a known number of samples.

Binomial paths are followed look by look (Armitage, McPherson and Rowe 1969; Jennison and Turnbull 2000, chapter 12).
The certify boundary spends alpha along a(t) = 0.2 t + 0.8 t^4 (Lan and DeMets 1983), the eliminate boundary spends
beta along sqrt(t), and curtailment adds a bound below which certification has become improbable. Giving up never
feeds back into the certify boundary (non-binding futility), so the level holds even where a bound is overridden.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from evals.statistics.curtailment import curtailment_bound
from evals.statistics.distributions import binomial_pmf
from evals.statistics.types import FloatArray

FIRST_LOOK = 20
NEGLIGIBLE = 1e-17
"""Probability mass that is dropped from the low end of a distribution, after being charged to alpha."""


@dataclass(frozen=True, slots=True)
class Design:
    """The boundaries of one test; all tuples have one entry per look and count successes."""

    n: int
    target: float
    alternative: float
    """Target plus margin: a candidate with this mean is eliminated with probability at most `beta`."""
    alpha: float
    beta: float
    gamma: float
    looks: tuple[int, ...]
    certify: tuple[int, ...]
    """Certify at this many successes or more; out of reach where the look cannot certify."""
    eliminate: tuple[int, ...]
    """Eliminate at this many successes or fewer; -1 where the look cannot eliminate."""
    hopeless: tuple[int, ...]
    """Give up at this many successes or fewer; -1 where the look cannot give up, as at the last."""

    @property
    def give_up(self) -> tuple[int, ...]:
        """The higher of the two lower boundaries: at this many successes or fewer the test stops."""
        return tuple(max(pair) for pair in zip(self.eliminate, self.hopeless, strict=True))

    @property
    def attainable(self) -> bool:
        """Whether some look can certify."""
        return any(bound <= look for bound, look in zip(self.certify, self.looks, strict=True))


def look_schedule(n: int) -> tuple[int, ...]:
    """Sample counts at which a test of n samples looks: every 10 from 20 on, then steps of 12 %, then n."""
    if n < 1:
        raise ValueError(f"a test needs at least one sample, got n={n!r}")
    looks = []
    look = FIRST_LOOK
    while look < n:
        looks.append(look)
        look += 10 * max(1, round(0.12 * look / 10))
    return (*looks, n)


def alternative_of(target: float, margin: float) -> float:
    """Target plus margin, held half-way below 1 where the sum would come too near or pass it."""
    if not 0.0 < target < 1.0:
        raise ValueError(f"a target lies strictly between 0 and 1, got {target!r}")
    if not margin > 0.0:
        raise ValueError(f"a margin is positive, got {margin!r}")
    return min(target + margin, (1.0 + target) / 2.0)


def alpha_spent(fraction: float, alpha: float) -> float:
    """Alpha that may be spent when this fraction of the samples is in: a little early, most kept for the end."""
    return alpha * (0.2 * fraction + 0.8 * fraction**4)


def beta_spent(fraction: float, beta: float) -> float:
    """Beta that may be spent when this fraction of the samples is in."""
    return float(beta * np.sqrt(fraction))


@dataclass(frozen=True, slots=True)
class Paths:
    """P(S = first + i and still running) in `mass[i]`."""

    mass: FloatArray
    first: int

    def advance(self, trials: int, p: float) -> Paths:
        """The same after `trials` more samples with success probability p."""
        if not self.mass.size:
            return self
        return Paths(np.convolve(self.mass, binomial_pmf(trials, p)), self.first)

    def split(self, bound: int) -> tuple[Paths, Paths]:
        """The paths with fewer than `bound` successes, and the others."""
        cut = min(max(bound - self.first, 0), len(self.mass))
        return Paths(self.mass[:cut], self.first), Paths(self.mass[cut:], self.first + cut)

    def total(self) -> float:
        """Probability of all paths."""
        return float(self.mass.sum())


START = Paths(np.ones(1), 0)


def certify_bounds(looks: tuple[int, ...], target: float, alpha: float) -> tuple[int, ...]:
    """Smallest success counts that keep P(certify by look i | target) within alpha_spent, for every look."""
    bounds = []
    paths, spent, seen = START, 0.0, 0
    for look in looks:
        paths = paths.advance(look - seen, target)
        seen = look
        allowed = alpha_spent(look / looks[-1], alpha) - spent
        tail = np.cumsum(paths.mass[::-1])[::-1]
        within = np.flatnonzero(tail <= allowed)
        bound = paths.first + (int(within[0]) if within.size else len(paths.mass))
        paths, certified = paths.split(bound)
        spent += certified.total()
        bounds.append(bound)
        below = int(np.searchsorted(np.cumsum(paths.mass), NEGLIGIBLE))
        dropped, paths = paths.split(paths.first + below)
        spent += dropped.total()
    return tuple(bounds)


def eliminate_bounds(
    looks: tuple[int, ...], alternative: float, beta: float, certify: tuple[int, ...]
) -> tuple[int, ...]:
    """Largest success counts that keep P(eliminate by look i | alternative) within beta_spent; -1 for none."""
    bounds = []
    paths, spent, seen = START, 0.0, 0
    for look, top in zip(looks, certify, strict=True):
        paths, _ = paths.advance(look - seen, alternative).split(top)
        seen = look
        allowed = beta_spent(look / looks[-1], beta) - spent
        mass_up_to = np.cumsum(paths.mass)
        if not mass_up_to.size or mass_up_to[-1] <= allowed:
            bound = top - 1
        else:
            within = np.flatnonzero(mass_up_to <= allowed)
            bound = paths.first + int(within[-1]) if within.size else -1
        eliminated, paths = paths.split(bound + 1)
        spent += eliminated.total()
        bounds.append(bound)
    return tuple(bounds)


@lru_cache(maxsize=256)
def design(n: int, target: float, margin: float, alpha: float, beta: float = 0.05, gamma: float = 0.005) -> Design:
    """The exact design for n samples of 0/1 scores.

    Args:
        n: samples there are.
        target: mean to certify against, in (0, 1).
        margin: a candidate with mean target + margin is eliminated with probability at most beta.
        alpha: P(certify | mean <= target) is at most this.
        beta: see margin.
        gamma: give up when the predictive probability of certifying with the last sample falls below this; 0 never.

    Raises:
        ValueError: a number outside its range.
    """
    if not (0.0 < alpha < 1.0 and 0.0 < beta < 1.0 and 0.0 <= gamma < 1.0):
        raise ValueError(f"alpha, beta and gamma are probabilities, got {alpha!r}, {beta!r}, {gamma!r}")
    looks, alternative = look_schedule(n), alternative_of(target, margin)
    certify = certify_bounds(looks, target, alpha)
    eliminate = eliminate_bounds(looks, alternative, beta, certify)
    hopeless = tuple(curtailment_bound(look, n, certify[-1], gamma) if look < n else -1 for look in looks)
    return Design(n, target, alternative, alpha, beta, gamma, looks, certify, eliminate, hopeless)
