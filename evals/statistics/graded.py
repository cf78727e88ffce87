"""The betting test of one candidate: scores in [0, 1] of any distribution, singly or in clusters."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from evals.statistics.betting import (
    BETS,
    bets,
    confidence_sequence,
    ever_reaches,
    lower_confidence_bound,
)
from evals.statistics.boundaries import look_schedule
from evals.statistics.distributions import student_isf
from evals.statistics.types import FloatArray, IntArray, Interval, Status


@dataclass(frozen=True)
class Units:
    """Which samples belong together, in the shared order; a unit counts once all its samples are in."""

    of_sample: IntArray
    """Shape (samples,): unit of each sample, numbered by when the units are complete."""
    complete_at: IntArray
    """Shape (units,), increasing: samples that are in when the unit is complete."""
    weights: FloatArray
    """Shape (units,): size over the largest size."""

    def looks(self, schedule: Sequence[int]) -> tuple[int, ...]:
        """The schedule with every look moved to the next sample count at which a unit is complete."""
        places = np.searchsorted(self.complete_at, np.asarray(schedule))
        return tuple(sorted({int(self.complete_at[place]) for place in places}))

    def sums(self, values: FloatArray) -> FloatArray:
        """Sums over the units, shape (units,), of one value per sample."""
        totals = np.bincount(self.of_sample, weights=values, minlength=len(self.complete_at))
        return np.asarray(totals, dtype=np.float64)

    def means(self, scores: FloatArray, missing: float) -> FloatArray:
        """Unit means of the complete units among the first len(scores) samples, NaN replaced by `missing`."""
        count = int(np.searchsorted(self.complete_at, len(scores), side="right"))
        unit = self.of_sample[: len(scores)]
        inside = unit < count
        filled = np.where(np.isnan(scores), missing, scores)[inside]
        sums = np.bincount(unit[inside], weights=filled, minlength=count)
        return np.asarray(sums / np.bincount(unit[inside], minlength=count), dtype=np.float64)


def units_of(n: int, groups: Sequence[Hashable | None] | None = None) -> Units:
    """Units of n samples; samples of one group form one unit, a sample without a group is one by itself.

    Raises:
        ValueError: `groups` has not one entry per sample.
    """
    if groups is not None and len(groups) != n:
        raise ValueError(f"{len(groups)!r} groups for {n!r} samples: give one entry per sample, None for no group")
    keys = [(True, group) if group is not None else (False, i) for i, group in enumerate(groups or [None] * n)]
    last = {key: i for i, key in enumerate(keys)}
    number = {key: unit for unit, key in enumerate(sorted(last, key=last.__getitem__))}
    of_sample = np.array([number[key] for key in keys], dtype=np.int64)
    sizes = np.bincount(of_sample)
    return Units(of_sample, np.sort(np.fromiter(last.values(), np.int64)) + 1, sizes / sizes.max())


@dataclass(frozen=True)
class BettingTest:
    """A SequentialTest by e-processes; its level holds at any number of looks and for any scores in [0, 1].

    The certify process bets against mean <= target, the eliminate process against mean >= alternative. The run is
    hopeless when a normal forecast of every bet's capital at the last unit falls short of 1 / alpha with probability
    1 - gamma; that costs power at most, never level.
    """

    units: Units
    target: float
    alternative: float
    alpha: float
    beta: float
    gamma: float

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """Sample counts at which the test may be asked: the schedule, moved to where a unit is complete."""
        return self.units.looks(look_schedule(len(self.units.of_sample)))

    @property
    def attainable(self) -> bool:
        """Whether perfect scores would certify."""
        perfect = np.ones(len(self.units.complete_at))
        return ever_reaches(-np.log(self.alpha), perfect, self.target, self.units.weights)

    def decide(self, scores: FloatArray) -> Status:
        """The status after the first n scores, shape (n,); NaN is a failed trial."""
        n = len(scores)
        if n not in self.looks:
            raise ValueError(f"the test looks at {self.looks!r} samples, not at {n!r}")
        low, high = self.units.means(scores, 0.0), self.units.means(scores, 1.0)
        weights = self.units.weights[: len(low)]
        if ever_reaches(-np.log(self.alpha), low, self.target, weights):
            return Status.CERTIFIED
        if ever_reaches(-np.log(self.beta), 1.0 - high, 1.0 - self.alternative, weights):
            return Status.ELIMINATED
        if n == self.looks[-1]:
            return Status.UNRESOLVED
        return Status.HOPELESS if self._hopeless(high, weights) else Status.CONTINUE

    def interval(self, scores: FloatArray, status: Status) -> Interval:
        """A confidence sequence at level 1 - alpha; valid whatever the status."""
        low, high = self.units.means(scores, 0.0), self.units.means(scores, 1.0)
        found = confidence_sequence(low, high, self.alpha, self.units.weights[: len(low)])
        # A failed trial widens the interval; it is no wrong answer, so the estimate leaves it out.
        answered = scores[~np.isnan(scores)]
        return replace(found, value=float(answered.mean())) if answered.size else found

    def lower_bound(self, scores: FloatArray, status: Status) -> float:
        """One-sided, at level 1 - alpha; at least the target when certified."""
        low = self.units.means(scores, 0.0)
        bound = lower_confidence_bound(low, self.alpha, self.units.weights[: len(low)])
        return max(bound, self.target) if status is Status.CERTIFIED else bound

    def _hopeless(self, scores: FloatArray, weights: FloatArray) -> bool:
        left = len(self.units.complete_at) - len(scores)
        if self.gamma <= 0.0 or len(scores) < 10:
            return False
        steps = np.log1p(np.multiply.outer(weights * (scores - self.target), bets(self.target)))
        spread = steps.std(axis=0, ddof=1) * np.sqrt(left + left**2 / len(scores))
        best = steps.sum(axis=0) + left * steps.mean(axis=0) + student_isf(self.gamma, len(scores) - 1) * spread
        return bool(logsumexp(best) - np.log(BETS) < -np.log(self.alpha))
