"""Prepares candidates and drives the ladder: asks it which samples come next, runs them, tells it what came out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from advisor.candidates import Candidate
from advisor.events import Stands
from advisor.ladder import Arm, Batch, Ladder, Observation
from advisor.measure import serving
from advisor.session import Prepared, Session
from advisor.techniques import registry
from backends.errors import BudgetError, RequestError
from evals.runner import first_problem
from evals.task import Task
from evals.trial import Trial


def arm(prepared: Prepared) -> Arm:
    """A prepared candidate as the ladder sees it; its cost per request is the one measured on dev."""
    dev = serving(prepared.dev)
    return Arm(
        prepared.candidate.id,
        dev.usd_per_1k_requests,
        reserved=prepared.candidate.technique.tunes,
        dev_score=dev.score,
        dev_n=dev.n - dev.errors,
    )


def by_cost(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Cheapest production first; an unknown price comes last; ties go by tokens, then by the simpler technique.

    Three significant digits: measured rates differ in the last ones, and a seed must climb the same way twice.
    """
    simplest = registry.names()

    def key(one: Prepared) -> tuple[float, float, int, str]:
        measured = serving(one.dev)
        dollars = measured.usd_per_1k_requests
        tokens = (measured.input_tokens or 0.0) + (measured.output_tokens or 0.0)
        rounded = float("inf") if dollars is None else float(f"{dollars:.3g}")
        return (rounded, tokens, simplest.index(one.candidate.technique.name), one.candidate.id)

    return sorted(prepared, key=key)


async def prepare_or_note(
    session: Session, candidate: Candidate, failed: dict[str, str], task: Task | None = None
) -> Prepared | None:
    """Prepare a candidate; one that cannot be fitted is noted in `failed` and does not stop the others.

    Lets pass what concerns more than this candidate: BackendUnavailable (memory, disk), and InputError from a model
    that cannot be opened.
    """
    try:
        return await session.prepare(candidate, task)
    except RequestError as error:
        failed[candidate.id] = str(error)
        return None


async def prepare_all(
    session: Session, candidates: Sequence[Candidate], prepared: dict[str, Prepared], failed: dict[str, str]
) -> None:
    """Prepare candidates into `prepared`, one after another, or side by side where their requests wait for batches.

    Raises as `prepare_or_note` does, and BudgetError with what was prepared until then in `prepared`.
    """

    async def prepare(candidate: Candidate) -> None:
        found = await prepare_or_note(session, candidate, failed)
        if found is not None:
            prepared[candidate.id] = found

    await in_turn([prepare(candidate) for candidate in candidates], side_by_side=session.batches)


async def in_turn(works: Sequence[Coroutine[Any, Any, None]], *, side_by_side: bool) -> None:
    """Do one piece of work after another; side by side, a budget that is used up ends only what it would overshoot."""
    if side_by_side:
        await _together(works)
        return
    waiting = list(works)
    try:
        while waiting:
            await waiting.pop(0)
    finally:
        for work in waiting:
            work.close()


async def _together(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    stopped: list[BudgetError] = []

    async def guarded(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BudgetError as error:
            stopped.append(error)

    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(guarded(work))
    except BaseExceptionGroup as problems:
        raise first_problem(problems) from problems
    if stopped:
        raise stopped[0]


async def climb(session: Session, ladder: Ladder, prepared: Mapping[str, Prepared]) -> None:
    """Run batches until the ladder asks for none. Trials that the store holds are replayed, not evaluated."""
    while batches := ladder.next():
        found = await _tested(session, prepared, batches)
        for batch, trials in zip(batches, found, strict=True):
            standing = ladder.record(batch.arm, [_observation(trial) for trial in trials])
            session.observe(Stands(batch.arm, standing))


async def _tested(session: Session, prepared: Mapping[str, Prepared], batches: Sequence[Batch]) -> list[list[Trial]]:
    """Trials of each batch, run side by side: where one fails, none of the others goes on unseen."""
    found: dict[int, list[Trial]] = {}

    async def test(number: int, batch: Batch) -> None:
        found[number] = await session.test(prepared[batch.arm], session.order[batch.start : batch.stop])

    await _together([test(number, batch) for number, batch in enumerate(batches)])
    return [found[number] for number in range(len(batches))]


def _observation(trial: Trial) -> Observation:
    return Observation(trial.score.value if trial.score else None, trial.seconds, trial.usage.cost_usd)
