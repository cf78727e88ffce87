"""What a training won on the task: the tuned candidate against an untrained one of the same model, paired."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from advisor.measure import serving
from advisor.session import Prepared, Session
from evals.statistics.paired import compare_pair
from evals.trial import ASIDE


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean score after minus before, on the test samples that both answered."""

    against: str
    """The candidate it is compared with."""
    n: int
    difference: float
    low: float
    high: float
    """Of the difference, at the goal's confidence."""
    p_value: float
    """Two-sided, of no difference."""

    def as_json(self) -> dict[str, Any]:
        """What the report shows."""
        return asdict(self)


def gain(session: Session, tuned: Prepared, prepared: Iterable[Prepared]) -> Gain | None:
    """What training won over the same model untrained; None where too little can be compared."""
    before = untrained(tuned, prepared)
    return None if before is None else beside(session, tuned, before)


def beside(session: Session, tuned: Prepared, before: Prepared) -> Gain | None:
    """A tuned candidate against any other; None where too little can be compared."""
    after, ahead = _scores(session, tuned), _scores(session, before)
    both = [sample for sample in session.order if sample.id in after and sample.id in ahead]
    if len(both) < 2:
        return None
    found = compare_pair(
        np.array([after[sample.id] for sample in both]),
        np.array([ahead[sample.id] for sample in both]),
        seed=session.seed,
        level=session.scenario.goal.confidence,
        groups=[sample.group for sample in both],
    )
    return Gain(before.candidate.id, found.n, found.difference, found.low, found.high, found.p_value)


def untrained(tuned: Prepared, prepared: Iterable[Prepared]) -> Prepared | None:
    """The same model without training: asked outright, else the candidate that was best on dev."""
    same = [one for one in prepared if one.candidate.model == tuned.candidate.model]
    before = [one for one in same if not one.candidate.technique.tunes]
    plain = [one for one in before if one.candidate.technique.name == "zero_shot"]
    return max(plain or before, key=lambda one: serving(one.dev).score or 0.0, default=None)


def _scores(session: Session, one: Prepared) -> dict[str, float]:
    """Mean score of each test sample that was answered, over its repetitions."""
    by_sample: dict[str, list[float]] = {}
    for trial in session.store.trials(session.run_id, one.candidate.id, "test"):
        if trial.score is not None and not trial.variant.startswith(ASIDE):
            by_sample.setdefault(trial.sample_id, []).append(trial.score.value)
    return {sample: sum(found) / len(found) for sample, found in by_sample.items()}
