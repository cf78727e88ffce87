"""Which failures of a candidate are looked at."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from evals.task import Sample
from evals.trial import Trial

MOST = 40
"""A share of 40 has an interval of at most 30 points; more would make a diagnosis dearer than many tests."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A test sample that a candidate got wrong, or failed on."""

    sample: Sample
    trial: Trial


@dataclass(frozen=True, slots=True)
class Failures:
    """What went wrong in a candidate's test."""

    n: int
    """All failures."""
    looked_at: tuple[Failure, ...]
    """At most `MOST`, in the order of the trials."""

    @property
    def wrong(self) -> tuple[Failure, ...]:
        """Those with an answer."""
        return tuple(failure for failure in self.looked_at if failure.trial.error is None)


def failures(trials: Sequence[Trial], samples: Sequence[Sample], threshold: float, seed: int) -> Failures:
    """The trials that count, on test samples, with an error or a score below `threshold`.

    More than `MOST` are sampled at random by the seed, so that shares speak for all of them.
    """
    by_id = {sample.id: sample for sample in samples}
    found = [
        Failure(by_id[trial.sample_id], trial)
        for trial in trials
        if trial.split == "test" and not trial.variant and _failed(trial, threshold)
    ]
    if len(found) <= MOST:
        return Failures(len(found), tuple(found))
    kept = sorted(random.Random(f"{seed}:failures").sample(range(len(found)), MOST))
    return Failures(len(found), tuple(found[position] for position in kept))


def _failed(trial: Trial, threshold: float) -> bool:
    return trial.error is not None or trial.score is None or trial.score.value < threshold
