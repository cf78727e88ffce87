"""One sitting of a run: opens models, fits candidates and runs their trials; the store remembers all of it."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from advisor.candidates import Candidate
from advisor.events import Evaluated, Fitting, Observer, Tuning
from advisor.scenario.model import Scenario
from advisor.techniques.base import FitContext, Fitted
from advisor.techniques.registry import load_fitted
from advisor.workspace import Workspace, explained
from backends import registry as backends
from backends.errors import BudgetError
from backends.meter import Meter
from backends.types import TunedModel, TuneJob, Usage
from evals.budget import Budget
from evals.cache import CachedChat, CachedEmbedder
from evals.runner import Runner, Work
from evals.store import Store
from evals.task import Sample
from evals.trial import Trial

_DEV_SAMPLES = 50
"""Cost per request and p95 are nearly free of noise after 50 requests; more would only make fitting dearer."""


@dataclass(frozen=True, slots=True)
class FitCost:
    """What fitting took: model calls and training."""

    usage: Usage
    seconds: float
    cached_requests: int = 0
    """How many of the requests the response cache answered."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fitted candidate with its model open and its dev trials done."""

    candidate: Candidate
    fitted: Fitted
    chat: CachedChat
    cost: FitCost
    dev: tuple[Trial, ...]


class Session:
    """What a run needs from the outside. Use as `async with`; models stay open until the end."""

    def __init__(self, scenario: Scenario, store: Store, workspace: Workspace, run_id: str, observe: Observer) -> None:
        run = store.run(run_id)
        self.scenario = scenario
        self.store = store
        self.workspace = workspace
        self.run_id = run_id
        self.observe = observe
        self.seed = scenario.seed
        self.race = bool(run.options.get("race"))
        """Whether all candidates are tested side by side: fewer rounds, more spent."""
        self.repeats = int(run.options.get("repeats") or 1)
        """How often `compare` asks each candidate about each sample."""
        self.order = shared_order(scenario.task.test, self.seed)
        self._settings = backends.Settings(usd_per_hour=scenario.usd_per_hour)
        self._budget = Budget(scenario.budget.usd, store.billed_usd(run_id))
        self._earlier_seconds = run.seconds
        self._started = time.monotonic()
        self._chats: dict[str, CachedChat] = {}
        self._embedder: CachedEmbedder | None = None
        self._runner = Runner(store, run_id, scenario.scorer, lambda trial: observe(Evaluated(trial)))

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        for chat in self._chats.values():
            await chat.aclose()
        if self._embedder is not None:
            await self._embedder.aclose()

    @property
    def total_seconds(self) -> float:
        """Wall-clock seconds of all sittings of this run."""
        return self._earlier_seconds + time.monotonic() - self._started

    def check_time(self) -> None:
        """Note the seconds spent and raise BudgetError when `budget.minutes` is used up; called between batches."""
        self.store.spend_seconds(self.run_id, self.total_seconds)
        minutes = self.scenario.budget.minutes
        if minutes is not None and self.total_seconds > minutes * 60:
            raise BudgetError(
                f"the budget of {minutes:g} minutes is used up. Raise budget.minutes in {self.scenario.file} and go on "
                f"with --resume {self.run_id}; nothing that was done is done again."
            )

    async def prepare(self, candidate: Candidate) -> Prepared:
        """Fit a candidate, or load it when this run fitted it before, and run its dev trials."""
        dev = shared_order(self.scenario.task.dev, self.seed)[:_DEV_SAMPLES]
        self.check_time()
        self.observe(Fitting(candidate.id, len(dev)))
        fitted, cost = await self._fitted(candidate)
        name, folder = fitted.tuned or (candidate.model, None)
        chat = self._chat(name, folder)
        trials = await self._runner.run(Work(candidate.id, fitted.solve, chat, self._embeddings(candidate), "dev"), dev)
        return Prepared(candidate, fitted, chat, cost, tuple(trials))

    async def test(
        self, prepared: Prepared, samples: Sequence[Sample], *, variant: str = "", repeat: int = 0
    ) -> list[Trial]:
        """Trials of a prepared candidate on test samples, in their order."""
        self.check_time()
        embedder = self._embeddings(prepared.candidate)
        work = Work(prepared.candidate.id, prepared.fitted.solve, prepared.chat, embedder, "test", variant, repeat)
        return await self._runner.run(work, samples)

    async def _fitted(self, candidate: Candidate) -> tuple[Fitted, FitCost]:
        folder = self.workspace.fitted_folder(self.run_id, candidate.id)
        record = self.store.fit(self.run_id, candidate.id)
        if record is not None and folder.is_dir():
            cost = FitCost(Usage(**record["usage"]), record["seconds"], record["cached_requests"])
            return load_fitted(folder), cost
        meter = Meter(self._chat(candidate.model, None), self._embeddings(candidate))
        fitted, tuned = await self._fit(candidate, meter)
        cost = FitCost(meter.usage, meter.seconds, meter.cached_requests)
        if tuned is not None:
            training = Usage(cost_usd=tuned.cost_usd)
            cost = FitCost(meter.usage + training, meter.seconds + tuned.seconds, meter.cached_requests)
        with explained(self.workspace.root):
            _save_whole(fitted, folder)
        self.store.add_fit(self.run_id, candidate.id, asdict(cost))
        return fitted, cost

    async def _fit(self, candidate: Candidate, meter: Meter) -> tuple[Fitted, TunedModel | None]:
        trained: list[TunedModel] = []

        async def tune(job: TuneJob) -> TunedModel:
            tuner = backends.open_tuner(self.scenario.fine_tune.backend, self._settings)
            model = await tuner.tune(job, lambda progress: self.observe(Tuning(candidate.id, progress)))
            trained.append(model)
            return model

        context = FitContext(meter, self.seed, self.workspace.adapters.resolve(), tune)
        fitted = await candidate.technique.fit(self.scenario.task, context)
        return fitted, trained[-1] if trained else None

    def _chat(self, name: str, folder: Path | None) -> CachedChat:
        if name not in self._chats:
            model = backends.open_chat(name, self._settings, folder)
            self._chats[name] = CachedChat(model, self.store, self.run_id, self._budget)
        return self._chats[name]

    def _embeddings(self, candidate: Candidate) -> CachedEmbedder | None:
        if not candidate.technique.embeds:
            return None
        if self._embedder is None:
            self._embedder = CachedEmbedder(
                backends.open_embedder(self.scenario.embedder, self._settings), self.store, self.run_id
            )
        return self._embedder


def shared_order(samples: Sequence[Sample], seed: int) -> tuple[Sample, ...]:
    """The one random order in which every candidate sees the samples: paired, and never the file's order.

    Samples of one group stay together, since the group is what was drawn at random.
    """
    rng = random.Random(f"{seed}:order")
    clusters: dict[str, list[Sample]] = {}
    for sample in samples:
        clusters.setdefault(f"id {sample.id}" if sample.group is None else f"group {sample.group}", []).append(sample)
    drawn = list(clusters.values())
    rng.shuffle(drawn)
    return tuple(sample for cluster in drawn for sample in rng.sample(cluster, len(cluster)))


def _save_whole(fitted: Fitted, folder: Path) -> None:
    """Save so that the folder exists only when it is complete."""
    unfinished = folder.with_name(folder.name + ".part")
    for old in (unfinished, folder):
        shutil.rmtree(old, ignore_errors=True)
    unfinished.mkdir(parents=True)
    fitted.save(unfinished)
    unfinished.rename(folder)
