"""The pilot: train on a part of the train split, forecast what the whole will reach, and gate the full training on it.

The smaller trainings cost three quarters of the full one, which is only begun when the forecast leaves it a chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from advisor.candidates import Candidate
from advisor.events import Piloting
from advisor.fitting import FitCost, fit
from advisor.measure import serving
from advisor.session import Session
from evals.runner import Work
from evals.splits import shared_order, shuffled_prefix
from evals.statistics.learning_curve import Forecast, PilotPoint, forecast
from evals.task import Task
from evals.trial import FITTING

FRACTIONS = (0.25, 0.5)
FEWEST_TRAIN = 200
"""A quarter of fewer is under the 50 samples from which tuning is said to begin to work."""
FEWEST_DEV = 30
"""Fewer say next to nothing about a score."""
MOST_DEV = 200


@dataclass(frozen=True, slots=True)
class PilotRun:
    """One size of the pilot."""

    fraction: float
    samples: int
    """Train samples."""
    score: float | None
    """Mean on dev; None when no sample was answered."""
    n_dev: int
    cost: FitCost
    """Training and dev trials."""
    usd_per_1k_requests: float | None = None
    """What requests to the model of this size cost."""

    def as_json(self) -> dict[str, Any]:
        """What the report shows."""
        return {
            "fraction": self.fraction,
            "samples": self.samples,
            "score": self.score,
            "n_dev": self.n_dev,
            "usd_per_1k_requests": self.usd_per_1k_requests,
            "usd": self.cost.usage.cost_usd,
            "seconds": self.cost.seconds,
        }


@dataclass(frozen=True, slots=True)
class Pilot:
    """What the pilot found."""

    runs: tuple[PilotRun, ...]
    wanted: float
    """The score that the forecast is asked about: the target and half the margin."""
    forecast: Forecast
    """Of training on the whole train split."""
    with_more: Forecast
    """Of training on four times as much."""

    @property
    def cost(self) -> FitCost:
        """Of all sizes."""
        first, *rest = (run.cost for run in self.runs)
        return sum(rest, first)


def suffices(task: Task) -> bool:
    """Whether parts of the train split can tell anything."""
    return len(task.train) >= FEWEST_TRAIN and len(task.dev) >= FEWEST_DEV


async def pilot(session: Session, candidate: Candidate, task: Task) -> Pilot | None:
    """Train the smaller sizes and forecast; None where it is not wanted or the data are too few to tell anything."""
    if not suffices(task) or not session.scenario.fine_tune.pilot or session.start(candidate) is not None:
        # What goes on from a tuned model has learnt most of the data already: no part of them stands for the whole.
        return None
    runs = tuple([await _size(session, candidate, task, fraction) for fraction in FRACTIONS])
    goal = session.scenario.goal
    return forecasts(runs, goal.target + goal.margin / 2)


def forecasts(runs: Sequence[PilotRun], wanted: float) -> Pilot | None:
    """Forecast from the sizes that have a score; None when there is none."""
    points = [PilotPoint(run.fraction, run.score) for run in runs if run.score is not None]
    if not points:
        return None
    n_dev = min(run.n_dev for run in runs)
    now, more = (forecast(points, n_dev, wanted, multiple) for multiple in (1.0, 4.0))
    if now.decision == "stop" and rising(points) >= wanted:
        now = replace(now, decision="more_evidence")
    return Pilot(tuple(runs), wanted, now, more)


def rising(points: Sequence[PilotPoint]) -> float:
    """The score of the whole train split if it went on rising with the logarithm of the size as between the last two.

    Small data show a phase before the power law sets in (Lin et al. 2024, arXiv:2402.02314), in which a power law
    forecasts too little. A curve as steep as this may not be stopped.
    """
    if len(points) < 2:
        return 1.0
    before, last = points[-2:]
    slope = (last.score - before.score) / math.log(last.fraction / before.fraction)
    return last.score + slope * math.log(1 / last.fraction)


async def _size(session: Session, candidate: Candidate, task: Task, fraction: float) -> PilotRun:
    """Train on a part and score it on dev; remembered, so that a resumed run does not do it again."""
    name = f"{candidate.id} pilot {fraction:g}"
    record = session.store.fit(session.run_id, name)
    if record is None:
        session.observe(Piloting(candidate.id, fraction))
        found = await _trained(session, candidate, part_of(task, fraction, session.seed), fraction)
        record = found.as_json() | {"cost": found.cost.as_record()}
        session.store.add_fit(session.run_id, name, record)
    fields = {key: record[key] for key in ("fraction", "samples", "score", "n_dev", "usd_per_1k_requests")}
    return PilotRun(**fields, cost=FitCost.from_record(record["cost"]))


async def _trained(session: Session, candidate: Candidate, task: Task, fraction: float) -> PilotRun:
    made = await fit(session, candidate, task)
    dev = shared_order(task.dev, session.seed)[:MOST_DEV]
    async with session.tuned_chat(made.fitted) as chat:
        variant = f"{FITTING}pilot {fraction:g}"
        work = Work(candidate.id, made.fitted.solve, chat, "dev", variant, helpers=session.helpers(candidate))
        trials = await session.runner.run(work, dev)
    tried = [FitCost(trial.usage + trial.scoring, trial.seconds, trial.cached_requests) for trial in trials]
    found = serving(trials)
    cost, answered = sum(tried, made.cost), found.n - found.errors
    return PilotRun(fraction, len(task.train), found.score, answered, cost, found.usd_per_1k_requests)


def part_of(task: Task, fraction: float, seed: int) -> Task:
    """The task with a part of its train split; a larger part holds every smaller one."""
    count = round(fraction * len(task.train))
    return replace(task, train=shuffled_prefix(task.train, count, seed, stratify=bool(task.labels)))
