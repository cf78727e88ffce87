"""Exact interval and estimate after a group-sequential test of 0/1 scores, by the stagewise ordering.

Outcomes are ordered by how soon and on which side the test stopped: an early certificate is higher than a late one,
then come the success counts at the last look, then late and early giving up (Tsiatis, Rosner and Mehta 1984;
Jennison and Turnbull 2000, section 8.4; for Simon designs Koyama and Chen 2008). The limits invert the two exact
tail probabilities of the outcome, as Clopper and Pearson do for a fixed sample; the estimate has mid-p tail 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import logit

from evals.statistics.boundaries import Design
from evals.statistics.distributions import binomial_pmf
from evals.statistics.types import FloatArray, Interval


@dataclass(frozen=True)
class Outcomes:
    """All ends a design can have, from the lowest to the highest, and their tails on a grid of means."""

    means: FloatArray
    """Shape (grid,), increasing in (0, 1)."""
    rows: dict[tuple[int, bool], range]
    """(look, certified) -> rows of the ends there, by increasing successes; the last look has one block for both."""
    first: dict[tuple[int, bool], int]
    """(look, certified) -> successes of the first of those rows."""
    at_most: FloatArray
    """Shape (outcomes, grid): P_mean(outcome <= this one)."""
    below: FloatArray
    """Shape (outcomes, grid): P_mean(outcome < this one)."""

    def row(self, look: int, successes: int, certified: bool) -> int:
        """Place of an end in the order; counts that failed trials put out of reach take the nearest in reach."""
        key = (look, certified)
        if not self.rows.get(key):
            raise ValueError(f"the test does not stop with {successes!r} successes after {look!r} samples")
        rows = self.rows[key]
        return rows[min(max(successes - self.first[key], 0), len(rows) - 1)]


@lru_cache(maxsize=65536)
def stagewise_interval(design: Design, n: int, successes: tuple[int, int], certified: bool, level: float) -> Interval:
    """Median-unbiased estimate and two-sided interval after the test stopped at n samples.

    Args:
        design: the design that was followed.
        n: samples at the stop, one of the design's looks.
        successes: successes when failed trials count as 0 and as 1; the limits use one each, the estimate the first.
        certified: on which side it stopped.
        level: confidence, such as 0.99375.

    Raises:
        ValueError: the test does not stop there.
    """
    outcomes = outcomes_of(design)
    low_row, high_row = (outcomes.row(n, count, certified) for count in successes)
    tail = (1.0 - level) / 2.0
    low = _mean_at(outcomes.means, 1.0 - outcomes.below[low_row], tail, absent=0.0)
    high = _mean_at(outcomes.means, 1.0 - outcomes.at_most[high_row], 1.0 - tail, absent=1.0)
    middle = 1.0 - (outcomes.below[low_row] + outcomes.at_most[low_row]) / 2.0
    value = _mean_at(outcomes.means, middle, 0.5, absent=successes[0] / n)
    return Interval(min(max(value, low), high), low, high, f"stagewise exact, {100 * level:.4g} %")


@lru_cache(maxsize=65536)
def stagewise_lower(design: Design, n: int, successes: int, certified: bool, alpha: float) -> float:
    """One-sided lower confidence bound at level 1 - alpha after a stop at n samples."""
    outcomes = outcomes_of(design)
    tail = 1.0 - outcomes.below[outcomes.row(n, successes, certified)]
    return _mean_at(outcomes.means, tail, alpha, absent=0.0)


def _mean_at(means: FloatArray, tail: FloatArray, probability: float, absent: float) -> float:
    """The mean at which an increasing tail probability takes this value, interpolated on the logit scale."""
    if tail[-1] < probability or tail[0] > probability:
        return absent
    with np.errstate(divide="ignore"):
        scale = np.clip(logit(np.clip(tail, 0.0, 1.0)), -700.0, 700.0)
    return float(np.interp(logit(probability), np.maximum.accumulate(scale), means))


@dataclass(frozen=True)
class _Block:
    """Ends at one look on one side: `mass` has shape (grid, width), for successes `first`, `first` + 1, ..."""

    look: int
    sides: tuple[bool, ...]
    first: int
    mass: FloatArray


@lru_cache(maxsize=8)
def outcomes_of(design: Design) -> Outcomes:
    """The order of all ends of a design and their exact tail probabilities, by one pass over its looks."""
    # Half a standard error of the last look between neighbours keeps interpolation errors far below the limits' width.
    points = max(175, int(6.5 * np.sqrt(design.n)))
    means = np.sin(np.linspace(0.0, np.pi / 2.0, points + 2)[1:-1]) ** 2
    down: list[_Block] = []
    up: list[_Block] = []
    mass, first, seen = np.ones((points, 1)), 0, 0
    for look, top, bottom in zip(design.looks[:-1], design.certify[:-1], design.give_up[:-1], strict=True):
        mass = _advance(mass, look - seen, means)
        seen = look
        low, high = (min(max(cut - first, 0), mass.shape[1]) for cut in (bottom + 1, top))
        down.append(_Block(look, (False,), first, mass[:, :low]))
        up.append(_Block(look, (True,), first + high, mass[:, high:]))
        mass, first = mass[:, low:high], first + low
    last = _Block(design.n, (False, True), first, _advance(mass, design.n - seen, means))
    return _tails(means, [*down, last, *reversed(up)])


def _advance(mass: FloatArray, trials: int, means: FloatArray) -> FloatArray:
    """Convolve the rows of `mass`, shape (grid, width), with Binomial(trials, means)."""
    steps = binomial_pmf(trials, means)
    out = np.zeros((mass.shape[0], mass.shape[1] + trials))
    for i in range(trials + 1):
        out[:, i : i + mass.shape[1]] += steps[:, i : i + 1] * mass
    return out


def _tails(means: FloatArray, blocks: list[_Block]) -> Outcomes:
    mass = np.hstack([block.mass for block in blocks]).T
    at_most = np.cumsum(mass, axis=0)
    rows: dict[tuple[int, bool], range] = {}
    first: dict[tuple[int, bool], int] = {}
    start = 0
    for block in blocks:
        stop = start + block.mass.shape[1]
        for side in block.sides:
            rows[block.look, side] = range(start, stop)
            first[block.look, side] = block.first
        start = stop
    return Outcomes(means, rows, first, at_most, at_most - mass)
