"""Fits a candidate with everything it asks counted: model calls, choices tried on dev, training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from advisor.candidates import Candidate
from advisor.events import Choosing, Tuning
from advisor.techniques.base import FitContext, Fitted
from advisor.tuning.billing import trained
from backends import registry as backends
from backends.meter import Meter
from backends.types import TunedModel, TuneJob, Usage
from evals.cache import CachedChat
from evals.runner import Solve, Work
from evals.task import Sample, Split, Task
from evals.trial import FITTING, Trial

if TYPE_CHECKING:
    from advisor.session import Session


@dataclass(frozen=True, slots=True)
class FitCost:
    """What fitting took: model calls and training."""

    usage: Usage
    seconds: float
    cached_requests: int = 0
    """How many of the requests the response cache answered."""

    def __add__(self, other: FitCost) -> FitCost:
        return FitCost(
            self.usage + other.usage, self.seconds + other.seconds, self.cached_requests + other.cached_requests
        )

    def as_record(self) -> dict[str, Any]:
        """JSON-ready form; `from_record` reads it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Read what as_record gave."""
        return cls(Usage(**record["usage"]), record["seconds"], record["cached_requests"])


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted technique and what it took."""

    fitted: Fitted
    cost: FitCost


@dataclass
class _Ledger:
    """What one fit has asked so far."""

    meter: Meter
    tried: list[Trial] = field(default_factory=list)
    trained: list[TunedModel] = field(default_factory=list)

    def cost(self) -> FitCost:
        """Model calls, choices tried and training together."""
        asked = FitCost(self.meter.usage, self.meter.seconds, self.meter.cached_requests)
        choices = [FitCost(trial.usage + trial.scoring, trial.seconds, trial.cached_requests) for trial in self.tried]
        training = [FitCost(Usage(cost_usd=model.cost_usd), model.seconds) for model in self.trained]
        return sum([*choices, *training], asked)


async def fit(session: Session, candidate: Candidate, task: Task) -> Fit:
    """Fit a candidate on a task: the scenario's own, or a part of it. Choices and training are found done on resume."""
    ledger = _Ledger(Meter(session.chat(candidate.model), helpers=session.helpers(candidate)))

    async def tune(job: TuneJob) -> TunedModel:
        tuner = backends.open_tuner(session.scenario.fine_tune.backend, session.settings)
        model = await trained(session, tuner, job, lambda progress: session.observe(Tuning(candidate.id, progress)))
        ledger.trained.append(model)
        return model

    async def trials(choice: str, solve: Solve, samples: Sequence[Sample]) -> list[Trial]:
        return await tried(choice, session.chat(candidate.model), solve, samples)

    async def tuned_trials(name: str, folder: Path, solve: Solve, samples: Sequence[Sample]) -> list[Trial]:
        return await tried(f"state {name}", session.chat(name, folder), solve, samples)

    async def tried(choice: str, chat: CachedChat, solve: Solve, samples: Sequence[Sample]) -> list[Trial]:
        session.check_time()
        helpers = session.helpers(candidate)
        work = Work(candidate.id, solve, chat, _split_of(samples, task), f"{FITTING}{choice}", helpers=helpers)
        found = await session.runner.run(work, samples)
        ledger.tried += found
        return found

    context = FitContext(
        models=ledger.meter,
        seed=session.seed,
        adapters=session.workspace.adapters.resolve(),
        indexes=session.workspace.indexes.resolve(),
        tune=tune,
        trials=trials,
        note=lambda what, done, total: session.observe(Choosing(candidate.id, what, done, total)),
        start=session.start(candidate),
        tuned_trials=tuned_trials,
    )
    fitted = await candidate.technique.fit(task, context)
    return Fit(fitted, ledger.cost())


def _split_of(samples: Sequence[Sample], task: Task) -> Split:
    """The split that fitting may look at; test samples are out of bounds."""
    for split in ("dev", "train"):
        ids = {sample.id for sample in task.split(split)}
        if all(sample.id in ids for sample in samples):
            return split
    raise AssertionError("a technique tried a choice on samples that are not of one split, or on test samples")
