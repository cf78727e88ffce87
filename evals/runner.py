"""Runs one candidate on samples: bounded concurrency, one error policy, every trial stored before it is shown.

Error policy. What goes wrong with one sample (a refused request, a technique's or a scorer's exception) is a trial
with an error and its cost. What goes wrong for every sample (no key, no memory, budget, disk) stops the run.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from backends.errors import AdvisorError, BudgetError, RequestError
from backends.meter import Helpers, Meter
from backends.types import ChatModel, ChatRequest, Usage
from evals.scorers.base import AnyScorer, ModelScorer
from evals.store import Store
from evals.task import Sample, Split
from evals.trial import Score, Trial, whole_characters

Solve = Callable[[Sample, Meter], Awaitable[str]]
"""Answers one sample with the models of a meter; returns the answer's text."""

TrialObserver = Callable[[Trial], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What is run: one candidate, or one variant of it, on one split."""

    candidate: str
    solve: Solve
    chat: ChatModel
    split: Split
    variant: str = ""
    repeat: int = 0
    """Which repetition on the same samples; repetitions are told apart by their variant too."""
    helpers: Helpers = field(default_factory=Helpers)
    """Other models the candidate may ask."""
    rewrite: Callable[[ChatRequest], ChatRequest] | None = None
    """Changes every request, for an ablation: another temperature, say."""


class Runner:
    """Evaluates work and remembers trials; what a run already holds is not evaluated again."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        scorer: AnyScorer,
        observe: TrialObserver,
        concurrency: int = 64,
        scoring: Callable[[], Meter] | None = None,
    ) -> None:
        """`scoring` makes the meter of a scorer that asks models, one a trial."""
        self._store = store
        self._run_id = run_id
        # Told apart here: asking a protocol whether it is kept takes longer than most scorers.
        self._judge = scorer if isinstance(scorer, ModelScorer) else None
        self._scorer = None if isinstance(scorer, ModelScorer) else scorer
        self._observe = observe
        self._concurrency = concurrency
        self._scoring = scoring
        self._known: dict[tuple[str, str, str], dict[str, Trial]] = {}

    async def run(self, work: Work, samples: Sequence[Sample]) -> list[Trial]:
        """Trials of the samples, in their order. Trials already in the store are returned as they are."""
        key = (work.candidate, work.variant, work.split)
        if key not in self._known:
            stored = self._store.trials(self._run_id, work.candidate, work.split, work.variant)
            self._known[key] = {trial.sample_id: trial for trial in stored}
        known = self._known[key]
        waiting = iter([sample for sample in samples if sample.id not in known])
        stopped: list[BudgetError] = []
        try:
            with _collecting_what_is_new():
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self._concurrency, len(samples))):
                        group.create_task(self._worker(work, waiting, known, stopped))
                        # The first request is on its way before the last one is prepared.
                        await asyncio.sleep(0)
        except BaseExceptionGroup as problems:
            raise first_problem(problems) from problems
        if stopped:
            raise stopped[0]
        return [known[sample.id] for sample in samples]

    async def _worker(
        self, work: Work, waiting: Iterator[Sample], known: dict[str, Trial], stopped: list[BudgetError]
    ) -> None:
        for sample in waiting:
            if stopped:
                return
            try:
                trial = await self._trial(work, sample)
            except BudgetError as error:
                # What others have under way is paid for: it ends, so that nobody pays for it again.
                stopped.append(error)
                return
            self._store.add_trial(self._run_id, trial)
            known[sample.id] = trial
            self._observe(trial)

    async def _trial(self, work: Work, sample: Sample) -> Trial:
        meter = Meter(work.chat, repeat=work.repeat, helpers=work.helpers, rewrite=work.rewrite)
        judging = self._scoring() if self._judge is not None and self._scoring is not None else None
        output = score = error = None
        try:
            output = whole_characters(await work.solve(sample, meter))
            score = await self._score(output, sample, judging)
        except RequestError as problem:
            error = str(problem)
        except AdvisorError:
            raise
        except Exception as problem:  # the one broad catch: a bad trial is data, not a crash
            error = f"{type(problem).__name__}: {problem}"
        return Trial(
            candidate=work.candidate,
            split=work.split,
            sample_id=sample.id,
            output=output,
            score=score,
            error=None if error is None else whole_characters(error),
            usage=meter.usage,
            seconds=meter.seconds,
            cached_requests=meter.cached_requests + (0 if judging is None else judging.cached_requests),
            response_keys=tuple(meter.response_keys),
            variant=work.variant,
            steps=tuple(meter.steps),
            scoring=Usage() if judging is None else judging.usage,
            first_token_seconds=meter.first_token_seconds,
        )

    async def _score(self, output: str, sample: Sample, judging: Meter | None) -> Score:
        if self._scorer is not None:
            score = self._scorer(output, sample)
        else:
            assert self._judge is not None
            assert judging is not None, "a scorer that asks models needs a meter"
            score = await self._judge.score(output, sample, judging)
        return replace(score, reason=whole_characters(score.reason))


@contextmanager
def _collecting_what_is_new() -> Iterator[None]:
    """Have the garbage collector leave what is there alone: going over all that was imported takes a tenth of a second.

    Nothing waits for memory meanwhile: what is large, a model, is opened and closed between two runs.
    """
    # What is unreachable already would stay as long, and each of many short runs leaves some.
    gc.collect(1)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def first_problem(problems: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first problem that was raised; workers that were cancelled because of it raise none."""
    first = problems.exceptions[0]
    return first_problem(first) if isinstance(first, BaseExceptionGroup) else first
