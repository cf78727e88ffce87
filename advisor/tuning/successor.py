"""A model that goes on from a former one, against it: both on the same test samples of today, paired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advisor.session import Prepared, Session
from advisor.tuning.former import Former
from backends.errors import InputError
from backends.wording import counted
from evals.leakage import question_key
from evals.runner import Work
from evals.statistics.paired import Paired, compare_pair
from evals.statistics.types import FloatArray
from evals.task import Sample
from evals.trial import FORMER, Trial


@dataclass(frozen=True, slots=True)
class Succession:
    """The new model against the former one."""

    former: Former
    samples: int
    """Train samples of the new model."""
    new_samples: int
    """Of these, samples that the former one was not taught."""
    level: float
    """Confidence of the interval."""
    pair: Paired | None
    """New minus former; None when the former model could not be asked."""
    before: float | None
    """Mean score of the former model on the samples that both answered."""
    now: float | None
    won: int = 0
    """Samples on which the new model scored higher."""
    lost: int = 0
    missing: str = ""
    """Why the former model could not be asked."""

    def as_json(self) -> dict[str, Any]:
        """What the report shows."""
        pair = self.pair
        return {
            "run_id": self.former.run_id,
            "model": self.former.fitted.model.name,
            "start": self.former.start,
            "samples": self.samples,
            "new_samples": self.new_samples,
            "n": 0 if pair is None else pair.n,
            "before": self.before,
            "now": self.now,
            "difference": None if pair is None else pair.difference,
            "low": None if pair is None else pair.low,
            "high": None if pair is None else pair.high,
            "p_value": None if pair is None else pair.p_value,
            "won": self.won,
            "lost": self.lost,
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        """All of it in words."""
        return f"{self._beginning} {self._result}"

    @property
    def _beginning(self) -> str:
        name = f"the tuned model of run {self.former.run_id}"
        started = f"started from {name}" if self.former.start == "adapter" else f"started afresh, not from {name}"
        because = f" ({self.former.why_afresh.rstrip('.')})" if self.former.why_afresh else ""
        return f"The training {started}{because}; {self.new_samples} of {self.samples} train samples are new to that."

    @property
    def _result(self) -> str:
        if self.pair is None or self.before is None or self.now is None:
            return f"The two could not be compared: {self.missing or 'no test sample was answered by both.'}"
        return (
            f"On the same {counted(self.pair.n, 'test sample')} the former model scores {self.before:.3f} and the new "
            f"one {self.now:.3f}: {100 * self.pair.difference:+.1f} points ({100 * self.level:g} % interval "
            f"{100 * self.pair.low:+.1f} to {100 * self.pair.high:+.1f}), better on {self.won} and worse on "
            f"{self.lost}. {self._meaning} (p = {self.pair.p_value:.2g}, two-sided)."
        )

    @property
    def _meaning(self) -> str:
        assert self.pair is not None
        if self.pair.p_value > 1 - self.level:
            return "No difference is proved"
        return "The new model is better" if self.pair.difference > 0 else "The new model is worse; keep the former one"


async def succession(session: Session, tuned: Prepared, learnt: Sequence[Sample] | None = None) -> Succession | None:
    """Ask the former model about the test samples that the new one answered; None where there is no former one.

    `learnt` is what the new model learnt from, where that is not the train split. Trials are stored, and answers that
    were paid for come from the cache. Raises BudgetError.
    """
    former = session.formers.get(tuned.candidate.id)
    if former is None:
        return None
    stored = session.store.trials(session.run_id, tuned.candidate.id, "test", variant="")
    trials = {trial.sample_id: trial for trial in stored}
    asked = [sample for sample in session.order if sample.id in trials]
    now = _scores([trials[sample.id] for sample in asked])
    train = session.scenario.task.train if learnt is None else learnt
    try:
        before = _scores(await _answers(session, tuned, former, asked))
    except InputError as error:  # its base is gone or has other weights now
        return _found(session, former, train, None, now, np.full(len(asked), np.nan), str(error))
    goal, groups = session.scenario.goal, [sample.group for sample in asked]
    pair = compare_pair(now, before, seed=session.seed, level=goal.confidence, groups=groups)
    return _found(session, former, train, pair if pair.n else None, now, before)


async def _answers(session: Session, tuned: Prepared, former: Former, asked: Sequence[Sample]) -> list[Trial]:
    """The former model's trials, asked by its own prompt."""
    session.check_time()
    async with session.tuned_chat(former.fitted) as chat:
        work = Work(tuned.candidate.id, former.fitted.solve, chat, "test", f"{FORMER}{former.run_id}")
        return await session.runner.run(work, asked)


def _found(
    session: Session,
    former: Former,
    train: Sequence[Sample],
    pair: Paired | None,
    now: FloatArray,
    before: FloatArray,
    missing: str = "",
) -> Succession:
    taught = set(former.fitted.seen.get("train", ()))
    both = ~np.isnan(now + before)
    return Succession(
        former=former,
        samples=len(train),
        new_samples=sum(question_key(sample) not in taught for sample in train),
        level=session.scenario.goal.confidence,
        pair=pair,
        before=None if pair is None else float(before[both].mean()),
        now=None if pair is None else float(now[both].mean()),
        won=int(np.count_nonzero(now[both] > before[both])),
        lost=int(np.count_nonzero(now[both] < before[both])),
        missing=missing,
    )


def _scores(trials: Sequence[Trial]) -> FloatArray:
    return np.array([np.nan if trial.score is None else trial.score.value for trial in trials])
