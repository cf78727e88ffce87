"""The exact group-sequential test of one candidate: 0/1 scores, a known number of samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evals.statistics.betting import binary_confidence_sequence
from evals.statistics.boundaries import Design
from evals.statistics.stagewise import stagewise_interval, stagewise_lower
from evals.statistics.types import FloatArray, Interval, Status


@dataclass(frozen=True)
class BinaryTest:
    """A SequentialTest for independent 0/1 scores that follows the boundaries of a design."""

    design: Design

    @property
    def looks(self) -> tuple[int, ...]:
        """Sample counts at which the test may be asked."""
        return self.design.looks

    @property
    def attainable(self) -> bool:
        """Whether any scores at all would certify."""
        return self.design.attainable

    @cached_property
    def _bounds(self) -> dict[int, tuple[int, int, int]]:
        rows = zip(self.design.certify, self.design.eliminate, self.design.hopeless, strict=True)
        return dict(zip(self.design.looks, rows, strict=True))

    def decide(self, scores: FloatArray) -> Status:
        """The status after the first n scores, shape (n,); NaN is a failed trial."""
        n = len(scores)
        if n not in self._bounds:
            raise ValueError(f"the test looks at {self.looks!r} samples, not at {n!r}")
        certify, eliminate, hopeless = self._bounds[n]
        low, high = successes(scores)
        if low >= certify:
            return Status.CERTIFIED
        if high <= eliminate:
            return Status.ELIMINATED
        if high <= hopeless:
            return Status.HOPELESS
        return Status.UNRESOLVED if n == self.design.n else Status.CONTINUE

    def interval(self, scores: FloatArray, status: Status) -> Interval:
        """Stagewise after a stop of this test, else from a confidence sequence; at level 1 - alpha, two-sided."""
        if status is Status.CONTINUE:
            return binary_confidence_sequence(*successes(scores), len(scores), self.design.alpha)
        certified = status is Status.CERTIFIED
        return stagewise_interval(self.design, len(scores), successes(scores), certified, 1.0 - self.design.alpha)

    def lower_bound(self, scores: FloatArray, status: Status) -> float:
        """One-sided, at level 1 - alpha; at least the target when certified."""
        if status is Status.CONTINUE:
            return self.interval(scores, status).low
        certified = status is Status.CERTIFIED
        low, _ = successes(scores)
        return stagewise_lower(self.design, len(scores), low, certified, self.design.alpha)


def successes(scores: FloatArray) -> tuple[int, int]:
    """Successes among 0/1 scores when NaN counts as 0, and as 1."""
    missing = int(np.count_nonzero(np.isnan(scores)))
    low = int(np.nansum(scores)) if missing else int(scores.sum())
    return low, low + missing
