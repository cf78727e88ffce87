"""The words the statistics share: a status, an interval, a sequential test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class Status(StrEnum):
    """What a sequential test says about one candidate after a look at its scores."""

    CONTINUE = "continue"
    CERTIFIED = "certified"
    """The mean is proved to reach the target."""
    ELIMINATED = "eliminated"
    """The mean is proved to stay below target plus margin."""
    HOPELESS = "hopeless"
    """The samples that are left will hardly certify it any more; nothing is proved."""
    UNRESOLVED = "unresolved"
    """All samples are used and neither boundary was crossed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with a two-sided interval, in the unit of the data."""

    value: float
    low: float
    high: float
    method: str
    """How it was computed and at which level, for people."""

    def covers(self, truth: float) -> bool:
        """Whether the interval holds this value."""
        return self.low <= truth <= self.high


class SequentialTest(Protocol):
    """A test of one candidate's mean score against the target that may be asked at several looks.

    Scores lie in [0, 1] and come in the order the samples were taken. NaN is a failed trial: it counts as 0 towards
    certification and as 1 towards elimination, so that no missing answer helps either claim.
    """

    @property
    def looks(self) -> tuple[int, ...]:
        """Sample counts, increasing, at which `decide` may be asked; the last is all samples."""

    @property
    def attainable(self) -> bool:
        """Whether any scores at all would certify."""

    def decide(self, scores: FloatArray) -> Status:
        """The status after the first n scores, shape (n,), n one of `looks`; ValueError for another n."""

    def interval(self, scores: FloatArray, status: Status) -> Interval:
        """An interval that is valid at the moment the test stopped with this status, or at any other look."""

    def lower_bound(self, scores: FloatArray, status: Status) -> float:
        """One-sided lower confidence bound at the level of certification; at least the target when certified."""
