"""Prepares candidates and drives the ladder: asks it which samples come next, runs them, tells it what came out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from advisor.candidates import Candidate
from advisor.events import Stands
from advisor.ladder import Arm, Ladder, Observation
from advisor.measure import serving
from advisor.session import Prepared, Session
from backends.errors import RequestError
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
    """Cheapest production first; an unknown price comes last; ties go by tokens, then by id.

    Three significant digits: measured rates differ in the last ones, and a seed must climb the same way twice.
    """

    def key(one: Prepared) -> tuple[float, float, str]:
        measured = serving(one.dev)
        dollars = measured.usd_per_1k_requests
        tokens = (measured.input_tokens or 0.0) + (measured.output_tokens or 0.0)
        return (float("inf") if dollars is None else float(f"{dollars:.3g}"), tokens, one.candidate.id)

    return sorted(prepared, key=key)


async def prepare_or_note(session: Session, candidate: Candidate, failed: dict[str, str]) -> Prepared | None:
    """Prepare a candidate; one that cannot be fitted is noted in `failed` and does not stop the others.

    Lets pass what concerns more than this candidate: BackendUnavailable (memory, disk), and InputError from a model
    that cannot be opened.
    """
    try:
        return await session.prepare(candidate)
    except RequestError as error:
        failed[candidate.id] = str(error)
        return None


async def climb(session: Session, ladder: Ladder, prepared: Mapping[str, Prepared]) -> None:
    """Run batches until the ladder asks for none. Trials that the store holds are replayed, not evaluated."""
    while batches := ladder.next():
        results = await asyncio.gather(
            *(session.test(prepared[batch.arm], session.order[batch.start : batch.stop]) for batch in batches)
        )
        for batch, trials in zip(batches, results, strict=True):
            standing = ladder.record(batch.arm, [_observation(trial) for trial in trials])
            session.observe(Stands(batch.arm, standing))


def _observation(trial: Trial) -> Observation:
    return Observation(trial.score.value if trial.score else None, trial.seconds, trial.usage.cost_usd)
