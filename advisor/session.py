"""One sitting of a run: opens models, fits candidates and runs their trials; the store remembers all of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from advisor.candidates import Candidate
from advisor.events import Evaluated, Fitting, Observer, Waiting
from advisor.fitting import Fit, FitCost, fit
from advisor.scenario.model import Scenario
from advisor.techniques.base import Fitted
from advisor.techniques.registry import load_fitted
from advisor.tuning.former import Former
from advisor.workspace import Workspace, explained
from backends import registry as backends
from backends.batching import Batching
from backends.errors import BudgetError
from backends.meter import Helpers, Meter
from backends.types import ChatRequest, Reranker
from backends.wording import counted
from evals.budget import Budget
from evals.cache import CachedChat, CachedEmbedder
from evals.runner import Runner, Solve, Work
from evals.scorers.base import ModelScorer
from evals.splits import shared_order
from evals.store import Store
from evals.task import Sample, Task
from evals.trial import ABLATION, Trial
from evals.unsettled import Unsettled

DEV_SAMPLES = 50
"""Cost per request and p95 are nearly free of noise after 50 requests; more would only make fitting dearer."""
FRESH_SAMPLES = 200
"""A pick is run on once more; enough for an interval of a few points, and about 5 % more spending where the pick is
cheap ("fresh 200, Wilson")."""


_BATCHED = (
    "Requests went in batches: what was spent is their price, what candidates cost per request is that of single "
    "requests, and how long a user would wait was not measured."
)
_AT_ONCE, _IN_BATCHES = 256, 5000
"""Samples under way at once, of which an endpoint gets what it bears; where they wait for a batch, all should."""


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

    def __init__(
        self,
        scenario: Scenario,
        store: Store,
        workspace: Workspace,
        run_id: str,
        observe: Observer,
        formers: Mapping[str, Former] | None = None,
    ) -> None:
        run = store.run(run_id)
        self.scenario = scenario
        self.store = store
        self.workspace = workspace
        self.run_id = run_id
        self.observe = observe
        self.seed = scenario.seed
        self.kind = run.kind
        self.narrowed = run.options.get("techniques") is not None
        """Whether the run was asked to look at certain techniques only."""
        self.race = bool(run.options.get("race"))
        """Whether all candidates are tested side by side: fewer rounds, more spent."""
        self.repeats = int(run.options.get("repeats") or 1)
        """How often `compare` asks each candidate about each sample."""
        self.diagnoses = bool(run.options.get("diagnose", True))
        """Whether the failures of candidates that fall short are looked into."""
        self.formers = formers or {}
        """By candidate: the tuned models of a former run that trainings of this one go on from."""
        self.order = shared_order(scenario.task.test, self.seed)
        self.batches = bool(run.options.get("batch"))
        """Whether billed requests go in batches: what can be asked side by side had better be."""
        batching = Batching(workspace.batches.resolve(), lambda batch: observe(Waiting(batch)))
        self.settings = backends.Settings(scenario.usd_per_hour, batching if self.batches else None)
        self.left_running: list[str] = []
        """What goes on elsewhere after this sitting was interrupted, and how to end it."""
        self._unsettled = Unsettled(store, run_id)
        self.budget = self._budget = Budget(scenario.budget.usd, store.billed_usd(run_id), self._unsettled)
        self._earlier_seconds = run.seconds
        self._started = time.monotonic()
        self._chats: dict[str, CachedChat] = {}
        self._embedder: CachedEmbedder | None = None
        self._rerankers: dict[str, Reranker] = {}
        self.runner = Runner(
            store,
            run_id,
            scenario.scorer,
            lambda trial: observe(Evaluated(trial)),
            _IN_BATCHES if self.batches else _AT_ONCE,
            self.scoring_meter,
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
        self._unsettled.close()

    @property
    def unsettled_usd(self) -> float:
        """Dollars that may have left the house for calls that a kill cut off, and for those that go on without us."""
        return self._unsettled.usd

    @property
    def notes(self) -> tuple[str, ...]:
        """What the models of this sitting say that a reader of the figures should know, and that there were batches."""
        found = [note for name in sorted(self._chats) for note in self._chats[name].notes]
        if any(chat.outlives for chat in self._chats.values()):
            found.append(_BATCHED)
        return tuple(dict.fromkeys(found))

    def note_left_running(self, what: str | None) -> None:
        """Remember what an interruption leaves behind."""
        self.left_running += [] if what is None else [what]

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
                f"the budget of {counted(minutes, 'minute', 'g')} is used up. Raise budget.minutes in "
                f"{self.scenario.file} and go on with --resume {self.run_id}; nothing that was done is done again."
            )

    async def prepare(self, candidate: Candidate, task: Task | None = None) -> Prepared:
        """Fit a candidate, or load it when this run fitted it before, and run its dev trials.

        It learns from `task` where one is given, else from the scenario's own; dev samples are always those.
        """
        dev = shared_order(self.scenario.task.dev, self.seed)[:DEV_SAMPLES]
        self.check_time()
        self.observe(Fitting(candidate.id, len(dev)))
        made = await self._fitted(candidate, task or self.scenario.task)
        name, folder = made.fitted.tuned or (candidate.model, None)
        chat = self.chat(name, folder)
        work = Work(candidate.id, made.fitted.solve, chat, "dev", helpers=self.helpers(candidate))
        trials = await self.runner.run(work, dev)
        return Prepared(candidate, made.fitted, chat, made.cost, tuple(trials))

    async def test(
        self, prepared: Prepared, samples: Sequence[Sample], *, variant: str = "", repeat: int = 0
    ) -> list[Trial]:
        """Trials of a prepared candidate on test samples, in their order."""
        self.check_time()
        helpers = self.helpers(prepared.candidate)
        work = Work(prepared.candidate.id, prepared.fitted.solve, prepared.chat, "test", variant, repeat, helpers)
        return await self.runner.run(work, samples)

    async def ablate(
        self,
        prepared: Prepared,
        name: str,
        solve: Solve,
        samples: Sequence[Sample],
        *,
        rewrite: Callable[[ChatRequest], ChatRequest] | None = None,
    ) -> list[Trial]:
        """Trials of test samples under a changed candidate, for a diagnosis; no verdict sees them.

        `rewrite` changes every request. The same name must always mean the same change.
        """
        self.check_time()
        variant, helpers = f"{ABLATION}{name}", self.helpers(prepared.candidate)
        work = Work(prepared.candidate.id, solve, prepared.chat, "test", variant, helpers=helpers, rewrite=rewrite)
        return await self.runner.run(work, samples)

    async def _fitted(self, candidate: Candidate, task: Task) -> Fit:
        folder = self.workspace.fitted_folder(self.run_id, candidate.id)
        record = self.store.fit(self.run_id, candidate.id)
        if record is not None and folder.is_dir():
            return Fit(load_fitted(folder), FitCost.from_record(record))
        made = await fit(self, candidate, task)
        with explained(self.workspace.root):
            _save_whole(made.fitted, folder)
        self.store.add_fit(self.run_id, candidate.id, made.cost.as_record())
        return made

    @asynccontextmanager
    async def tuned_chat(self, fitted: Fitted) -> AsyncIterator[CachedChat]:
        """The tuned model that a fitted technique answers with, open for a while only: weights take memory."""
        assert fitted.tuned is not None
        name, folder = fitted.tuned
        chat = CachedChat(backends.open_chat(name, self.settings, folder), self.store, self.run_id, self._budget)
        try:
            yield chat
        finally:
            await chat.aclose()

    def scoring_meter(self) -> Meter:
        """What a scorer that asks models is metered by."""
        scorer = self.scenario.scorer
        assert isinstance(scorer, ModelScorer)
        embedder = self.embedder() if scorer.embeds else None
        # A scorer that only embeds has no chat model; the scenario's first stands in and is never asked.
        return Meter(self.chat(scorer.asks or self.scenario.models[0]), embedder)

    def start(self, candidate: Candidate) -> Path | None:
        """The fitted technique of a former run whose tuned model the candidate's training goes on from."""
        former = self.formers.get(candidate.id)
        return former.folder if former is not None and former.start == "adapter" else None

    def helpers(self, candidate: Candidate) -> Helpers:
        """The models that a candidate may ask beside its own, each opened when it is first asked."""
        embedder = self.embedder() if candidate.technique.embeds else None
        return Helpers(embedder, self.chat, self._reranker)

    def _reranker(self, name: str) -> Reranker:
        if name not in self._rerankers:
            self._rerankers[name] = backends.open_reranker(name, self.settings)
        return self._rerankers[name]

    def chat(self, name: str, folder: Path | None = None) -> CachedChat:
        """A chat model, opened once and kept to the end; `folder` is where a tuned one lies."""
        if name not in self._chats:
            model = backends.open_chat(name, self.settings, folder)
            self._chats[name] = CachedChat(model, self.store, self.run_id, self._budget)
        return self._chats[name]

    def embedder(self) -> CachedEmbedder:
        """The scenario's embedding model, opened once and kept to the end."""
        if self._embedder is None:
            self._embedder = CachedEmbedder(
                backends.open_embedder(self.scenario.embedder, self.settings), self.store, self.run_id, self._budget
            )
        return self._embedder


def _save_whole(fitted: Fitted, folder: Path) -> None:
    """Save so that the folder exists only when it is complete."""
    unfinished = folder.with_name(folder.name + ".part")
    for old in (unfinished, folder):
        shutil.rmtree(old, ignore_errors=True)
    unfinished.mkdir(parents=True)
    fitted.save(unfinished)
    unfinished.rename(folder)
