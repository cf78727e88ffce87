"""Training at a provider is money that leaves the house: reserved before anything is sent, booked when it is done.

What a job costs at most is known before (`Quote`). It stays reserved while the job goes on, also when this process is
gone, and is taken up by the sitting that finds the job again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from advisor.techniques.fine_tune import FineTune, FittedFineTune
from backends import registry as backends
from backends.errors import BudgetError, InputError, RequestError
from backends.types import Quote, TunedModel, TuneJob, TuneObserver, Tuner, Usage

if TYPE_CHECKING:
    from advisor.candidates import Candidate
    from advisor.session import Session


async def trained(session: Session, tuner: Tuner, job: TuneJob, observe: TuneObserver) -> TunedModel:
    """Run a job and book what it cost.

    Raises what `Tuner.tune` raises, BudgetError, and RequestError where `max_usd` leaves no room.
    """
    quote = await asyncio.to_thread(tuner.quote, job)
    kept = None if quote is None else _kept_usd(session, quote)
    if quote is None or (quote.finished and kept is None):
        return await _own(session, tuner, job, observe)
    if quote.billed and kept is None:
        check(session, quote, job.base)
    worst = (quote.worst_usd if kept is None else kept) if quote.billed else 0.0
    reserved = await session.budget.reserve(worst, job.base, quote.job)
    session.budget.rest()
    # Until the tuner says otherwise the job may have been created, and goes on without us.
    billed: float | None = None
    try:
        model = await tuner.tune(job, observe)
        # A job that an earlier sitting of this run created is this run's, also when it is found done.
        is_ours = kept is not None or not model.cached
        # Where the price is not known, no dollars are known to have left.
        billed = (model.cost_usd or 0.0) if quote.billed and is_ours else 0.0
        if is_ours:
            session.store.add_training(session.run_id, quote.job, model.cost_usd, billed)
        return model
    except RequestError as error:
        cost = error.usage.cost_usd
        billed = 0.0 if not quote.billed else (worst or 0.0) if cost is None else cost
        _book_failure(session, quote, cost, billed)
        raise
    except InputError:
        billed = 0.0
        raise
    except asyncio.CancelledError:
        session.note_left_running(tuner.left_running(job))
        raise
    finally:
        if billed is None:
            await session.budget.leave(reserved, quote.job)
        else:
            await session.budget.settle(reserved, billed, quote.job)


async def check_ahead(session: Session, candidate: Candidate) -> None:
    """Before pilot and teacher spend anything: raise what `check` says of the whole training.

    What a teacher will add is not known yet; such a training is checked when it is there.
    """
    technique = candidate.technique
    is_done = session.store.fit(session.run_id, candidate.id) is not None
    if not isinstance(technique, FineTune) or technique.taught or is_done:
        return
    folder = session.start(candidate)
    former = None if folder is None else FittedFineTune.load(folder)
    job = technique.job(session.scenario.task, session.seed, session.workspace.adapters.resolve(), former)
    tuner = backends.open_tuner(session.scenario.fine_tune.backend, session.settings)
    quote = await asyncio.to_thread(tuner.quote, job)
    if quote is not None and quote.billed and not quote.finished and _kept_usd(session, quote) is None:
        check(session, quote, job.base)


def check(session: Session, quote: Quote, base: str) -> None:
    """Refuse a job that a limit leaves no room for, or that ends in a model which cannot be tested within the budget.

    Raises RequestError for `fine_tune.max_usd`, which concerns this candidate alone, and BudgetError for `budget.usd`.
    """
    most, limit = session.scenario.fine_tune.max_usd, session.budget.limit_usd
    if most is not None:
        _check_most(session, quote, base, most)
    if limit is None:
        return
    if not quote.priced:
        raise BudgetError(
            f"what requests to a model tuned from {base} cost is not known, so it could be trained but not tested "
            f"within budget.usd. Give its price as {_row(base, tuned=True)}, or drop budget.usd."
        )
    if quote.worst_usd is None:
        raise BudgetError(
            f"the price of training {base} is not known, so no dollar budget can be kept. Give it as `training` of "
            f"{_row(base)}, or drop budget.usd."
        )
    if session.budget.spent_usd + quote.worst_usd > limit:
        raise BudgetError(
            f"training {base} could cost ${quote.worst_usd:.4g}, which with ${session.budget.spent_usd:.4g} spent "
            f"would exceed the budget of ${limit:.4g}. Raise it with --budget-usd and go on with --resume."
        )


def _check_most(session: Session, quote: Quote, base: str, most: float) -> None:
    if quote.worst_usd is None:
        raise RequestError(
            f"the price of training {base} is not known, so fine_tune.max_usd cannot be kept. Give it as `training` of "
            f"{_row(base)}, or drop fine_tune.max_usd."
        )
    spent = session.store.trained_billed_usd(session.run_id)
    if spent + quote.worst_usd > most:
        before = f", with ${spent:.4g} for trainings before it," if spent else ""
        cost = f"training {base} could cost ${quote.worst_usd:.4g}"
        raise RequestError(f"{cost}, which{before} is more than fine_tune.max_usd (${most:g}).")


def _row(base: str, *, tuned: bool = False) -> str:
    endpoint, _, model = base.partition("/")
    return f'[endpoints.{endpoint}.prices."{"ft:" if tuned else ""}{model}"] in advisor.toml'


async def _own(session: Session, tuner: Tuner, job: TuneJob, observe: TuneObserver) -> TunedModel:
    """A training that spends nothing outside: on this machine, or done before."""
    model = await tuner.tune(job, observe)
    if not model.cached:
        session.store.add_training(session.run_id, model.name, model.cost_usd)
    return model


def _kept_usd(session: Session, quote: Quote) -> float | None:
    """Dollars that an earlier sitting of the run set aside for the job and nobody has booked since; else None."""
    return session.store.unsettled(session.run_id).get(quote.job)


def _book_failure(session: Session, quote: Quote, cost_usd: float | None, billed_usd: float) -> None:
    """A job that failed may be billed; each is booked apart."""
    if cost_usd is None or cost_usd or billed_usd:
        session.store.add_failed_training(session.run_id, quote.job, Usage(cost_usd=cost_usd), billed_usd)
