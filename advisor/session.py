"""One sitting of a run: opens models, fits candidates and runs their trials; the store remembers all of it."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from advisor.candidates import Candidate
from advisor.events import Choosing, Evaluated, Fitting, Observer, Tuning
from advisor.scenario.model import Scenario
from advisor.techniques.base import FitContext, Fitted
from advisor.techniques.registry import load_fitted
from advisor.workspace import Workspace, explained
from backends import registry as backends
from backends.errors import BudgetError
from backends.meter import Helpers, Meter
from backends.types import Reranker, TunedModel, TuneJob, Usage
from evals.budget import Budget
from evals.cache import CachedChat, CachedEmbedder
from evals.runner import Runner, Solve, Work
from evals.scorers.base import ModelScorer
from evals.store import Store
from evals.task import Sample, Split
from evals.trial import ABLATION, FITTING, Trial

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
        self._rerankers: dict[str, Reranker] = {}
        self._runner = Runner(
            store, run_id, scenario.scorer, lambda trial: observe(Evaluated(trial)), scoring=self._scoring_meter
        )

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        for chat in self._chats.values():
            await chat.aclose()
        for reranker in self._rerankers.values():
            await reranker.aclose()
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
        work = Work(candidate.id, fitted.solve, chat, "dev", helpers=self._helpers(candidate))
        trials = await self._runner.run(work, dev)
        return Prepared(candidate, fitted, chat, cost, tuple(trials))

    async def test(
        self, prepared: Prepared, samples: Sequence[Sample], *, variant: str = "", repeat: int = 0
    ) -> list[Trial]:
        """Trials of a prepared candidate on test samples, in their order."""
        self.check_time()
        helpers = self._helpers(prepared.candidate)
        work = Work(prepared.candidate.id, prepared.fitted.solve, prepared.chat, "test", variant, repeat, helpers)
        return await self._runner.run(work, samples)

    async def ablate(self, prepared: Prepared, name: str, solve: Solve, samples: Sequence[Sample]) -> list[Trial]:
        """Trials of test samples under a changed candidate, for a diagnosis; no verdict sees them."""
        self.check_time()
        helpers = self._helpers(prepared.candidate)
        work = Work(prepared.candidate.id, solve, prepared.chat, "test", f"{ABLATION}{name}", helpers=helpers)
        return await self._runner.run(work, samples)

    async def _fitted(self, candidate: Candidate) -> tuple[Fitted, FitCost]:
        folder = self.workspace.fitted_folder(self.run_id, candidate.id)
        record = self.store.fit(self.run_id, candidate.id)
        if record is not None and folder.is_dir():
            cost = FitCost(Usage(**record["usage"]), record["seconds"], record["cached_requests"])
            return load_fitted(folder), cost
        meter = Meter(self._chat(candidate.model, None), helpers=self._helpers(candidate))
        fitted, tuned, tried = await self._fit(candidate, meter)
        cost = FitCost(
            sum((trial.usage + trial.scoring for trial in tried), meter.usage),
            meter.seconds + sum(trial.seconds for trial in tried),
            meter.cached_requests + sum(trial.cached_requests for trial in tried),
        )
        if tuned is not None:
            training = Usage(cost_usd=tuned.cost_usd)
            cost = replace(cost, usage=cost.usage + training, seconds=cost.seconds + tuned.seconds)
        with explained(self.workspace.root):
            _save_whole(fitted, folder)
        self.store.add_fit(self.run_id, candidate.id, asdict(cost))
        return fitted, cost

    async def _fit(self, candidate: Candidate, meter: Meter) -> tuple[Fitted, TunedModel | None, list[Trial]]:
        trained: list[TunedModel] = []
        tried: list[Trial] = []

        async def tune(job: TuneJob) -> TunedModel:
            tuner = backends.open_tuner(self.scenario.fine_tune.backend, self._settings)
            model = await tuner.tune(job, lambda progress: self.observe(Tuning(candidate.id, progress)))
            trained.append(model)
            return model

        async def trials(choice: str, solve: Solve, samples: Sequence[Sample]) -> list[Trial]:
            self.check_time()
            split = self._split_of(samples)
            helpers = self._helpers(candidate)
            work = Work(candidate.id, solve, meter.chat, split, f"{FITTING}{choice}", helpers=helpers)
            found = await self._runner.run(work, samples)
            tried.extend(found)
            return found

        context = FitContext(
            models=meter,
            seed=self.seed,
            adapters=self.workspace.adapters.resolve(),
            indexes=self.workspace.indexes.resolve(),
            tune=tune,
            trials=trials,
            note=lambda what, done, total: self.observe(Choosing(candidate.id, what, done, total)),
        )
        fitted = await candidate.technique.fit(self.scenario.task, context)
        return fitted, trained[-1] if trained else None, tried

    def _split_of(self, samples: Sequence[Sample]) -> Split:
        """The split that fitting may look at; test samples are out of bounds."""
        for split in ("dev", "train"):
            ids = {sample.id for sample in self.scenario.task.split(split)}
            if all(sample.id in ids for sample in samples):
                return split
        raise AssertionError("a technique tried a choice on samples that are not of one split, or on test samples")

    def _scoring_meter(self) -> Meter:
        """What a scorer that asks models is metered by."""
        scorer = self.scenario.scorer
        assert isinstance(scorer, ModelScorer)
        embedder = self._embeddings() if scorer.embeds else None
        # A scorer that only embeds has no chat model; the scenario's first stands in and is never asked.
        return Meter(self._chat(scorer.asks or self.scenario.models[0], None), embedder)

    def _helpers(self, candidate: Candidate) -> Helpers:
        embedder = self._embeddings() if candidate.technique.embeds else None
        return Helpers(embedder, lambda name: self._chat(name, None), self._reranker)

    def _reranker(self, name: str) -> Reranker:
        if name not in self._rerankers:
            self._rerankers[name] = backends.open_reranker(name, self._settings)
        return self._rerankers[name]

    def _chat(self, name: str, folder: Path | None) -> CachedChat:
        if name not in self._chats:
            model = backends.open_chat(name, self._settings, folder)
            self._chats[name] = CachedChat(model, self.store, self.run_id, self._budget)
        return self._chats[name]

    def _embeddings(self) -> CachedEmbedder:
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
