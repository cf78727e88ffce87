"""Training a candidate: the pilot that gates it, the training, and what is looked at afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from advisor.candidates import Candidate, teachers
from advisor.driver import prepare_or_note
from advisor.economics.hosting import machine
from advisor.economics.lifespan import day_of, shutdown_of
from advisor.findings import Findings
from advisor.measure import serving
from advisor.outcome import Escalation
from advisor.session import Prepared, Session
from advisor.techniques.fine_tune import FittedFineTune
from advisor.tuning.billing import check_ahead
from advisor.tuning.forgetting import Forgetting, forgetting
from advisor.tuning.gain import beside, gain
from advisor.tuning.mistakes import Mistakes, mistakes
from advisor.tuning.paying import Worth, terms_ahead, told, worth
from advisor.tuning.pilot import Pilot, pilot
from advisor.tuning.successor import Succession, succession
from advisor.tuning.teaching import Study, study
from advisor.tuning.terms import Priced
from backends import registry as backends
from backends.errors import BudgetError, RequestError
from backends.hardware import detect
from backends.types import Parity

_PARITY_SAMPLES = 12
"""Test prompts that the forms of a tuned model are compared on: a difference that matters shows on most prompts."""
_UNTOLD = (
    "Whether it would pay cannot be told without prices, or its base is shut down; the full training was not begun."
)


async def train(
    session: Session, findings: Findings, candidate: Candidate, reason: str, instead_of: Prepared | None = None
) -> tuple[Prepared, Pilot | None] | Escalation:
    """Pilot and train a candidate; an Escalation where it ends before there is a tuned model to test.

    `instead_of` is a candidate that meets the target already: training must then pay against it.
    """
    try:
        await check_ahead(session, candidate)
        learnt = await _studied(session, findings, candidate, instead_of)
    except RequestError as error:
        findings.failed[candidate.id] = str(error)
        return Escalation("failed", f"{reason} It was not trained: {error}", candidate=candidate.id)
    if learnt.problem is not None:
        findings.failed[candidate.id] = learnt.problem
        return Escalation("failed", f"{reason} {learnt.problem}", candidate=candidate.id)
    try:
        piloted = await pilot(session, candidate, learnt.task)
    except RequestError as error:
        findings.failed[candidate.id] = str(error)
        return Escalation("failed", f"{reason} The pilot could not be trained: {error}", candidate=candidate.id)
    spent = learnt.cost if piloted is None else learnt.cost + piloted.cost
    findings.pilot_costs[candidate.id] = spent
    against, ahead = _against(session, candidate, piloted, instead_of, learnt.cost.usage.cost_usd)
    if against is not None:
        findings.stopped_by_pilot[candidate.id] = against
        return Escalation("stopped", f"{reason} {against}", pilot=piloted, worth=ahead, candidate=candidate.id)
    ready = await prepare_or_note(session, candidate, findings.failed, learnt.task)
    if ready is None:
        text = f"{reason} Training failed: {findings.failed[candidate.id]}"
        return Escalation("failed", text, pilot=piloted, candidate=candidate.id)
    ready = replace(ready, cost=ready.cost + spent)
    findings.prepared[candidate.id] = ready
    return ready, piloted


async def _studied(session: Session, findings: Findings, candidate: Candidate, picked: Prepared | None) -> Study:
    """What the candidate learns from; the findings take note of a teacher and of what it took."""
    named = teachers(session.scenario, findings.lineup)
    able = [findings.prepared[one.id] for one in named if one.id in findings.prepared]
    found = await study(session, candidate, able, picked)
    if found.teaching is not None:
        findings.teachings[candidate.id] = found.teaching
        findings.pilot_costs[candidate.id] = found.cost
    return found


def _against(
    session: Session,
    candidate: Candidate,
    piloted: Pilot | None,
    instead_of: Prepared | None,
    taught_usd: float | None,
) -> tuple[str | None, Worth | None]:
    """What speaks against the full training, None when nothing does, and what it would be worth where that counts."""
    if session.scenario.fine_tune.when == "always":
        return None, None
    if piloted is not None and piloted.forecast.decision == "stop":
        return f"{outlook(piloted)} The full training was not begun.", None
    if instead_of is None:
        return None, None
    if piloted is None:
        return "Without a pilot nobody can tell whether it would pay: it takes 200 train and 30 dev samples.", None
    ahead = _worth_ahead(session, candidate, piloted, instead_of, taught_usd)
    if ahead is None:
        return _UNTOLD, None
    if ahead.value.mean <= 0:
        return f"{outlook(piloted)} {told(ahead)} The full training was not begun.", ahead
    return None, ahead


def _worth_ahead(
    session: Session, candidate: Candidate, piloted: Pilot, instead_of: Prepared, taught_usd: float | None
) -> Worth | None:
    """What the fine-tune is expected to be worth against a candidate that would do without it."""
    day = day_of(session.store.run(session.run_id).created)
    shutdown = shutdown_of(backends.lifecycle(candidate.model))
    other, price = instead_of.candidate, serving(instead_of.dev).usd_per_1k_requests
    pair = (
        Priced(candidate.id, candidate.model, piloted.runs[-1].usd_per_1k_requests, tuned=True),
        Priced(other.id, other.model, price, other.technique.tunes),
    )
    under = machine(session.scenario, detect())
    return worth(session.scenario, terms_ahead(session.scenario, pair, piloted, under, (day, shutdown), taught_usd))


async def aftermath(
    session: Session, findings: Findings, tuned: Prepared, piloted: Pilot | None, text: str
) -> Escalation:
    """What a tested model won, forgot and still gets wrong, and whether its forms agree; a budget undoes none of it."""
    forgot: tuple[Forgetting, ...] = ()
    alike: Parity | None = None
    succeeded: Succession | None = None
    wrong: Mistakes | None = None
    try:
        taught = findings.teachings.get(tuned.candidate.id)
        train = None if taught is None else taught.train
        succeeded = await succession(session, tuned, train)
        wrong = await mistakes(session, tuned, train)
        forgot = await forgetting(session, tuned)
        alike = await _parity(session, tuned)
    except BudgetError as error:
        text = f"{text} Not all of its aftermath was measured: {error}"
    text = f"{text} {succeeded.sentence}" if succeeded else text
    reason = f"{text} {outlook(piloted)}" if piloted else text
    _compare_with_teacher(session, findings, tuned)
    won, made = gain(session, tuned, findings.prepared.values()), facts(tuned, findings.prepared)
    return Escalation(
        "tuned",
        reason,
        made,
        piloted,
        forgot,
        parity=alike,
        gain=won,
        candidate=tuned.candidate.id,
        former=succeeded,
        mistakes=wrong,
    )


def _compare_with_teacher(session: Session, findings: Findings, tuned: Prepared) -> None:
    taught = findings.teachings.get(tuned.candidate.id)
    if taught is not None:
        found = beside(session, tuned, findings.prepared[taught.teacher])
        findings.teachings[tuned.candidate.id] = replace(taught, student=found)


async def _parity(session: Session, tuned: Prepared) -> Parity | None:
    assert isinstance(tuned.fitted, FittedFineTune)
    prompt, samples = tuned.fitted.prompt, session.order[:_PARITY_SAMPLES]
    tuner = backends.open_tuner(session.scenario.fine_tune.backend, session.settings)
    asked = [prompt.request(sample.input) for sample in samples]
    return await tuner.parity(tuned.candidate.model, tuned.fitted.model, asked)


def outlook(found: Pilot) -> str:
    """What the pilot says, in a sentence."""
    ahead, more = found.forecast, found.with_more
    sizes = ", ".join(f"{run.score:.2f} on {run.samples}" for run in found.runs if run.score is not None)
    return (
        f"The pilot scored {sizes} train samples on dev; all of them are forecast to reach {ahead.score:.2f} "
        f"({ahead.low:.2f}-{ahead.high:.2f}), with probability {ahead.p_reach:.2f} of the {found.wanted:.3g} it takes, "
        f"and four times as many {more.score:.2f} ({more.low:.2f}-{more.high:.2f})."
    )


def facts(tuned: Prepared, prepared: dict[str, Prepared]) -> dict[str, Any]:
    """What the report says about the training: recipe, losses, price, and dev scores before and after."""
    fitted = tuned.fitted
    assert isinstance(fitted, FittedFineTune)
    model = fitted.model
    same = [one for one in prepared.values() if one.candidate.model == tuned.candidate.model]
    before = [one for one in same if not one.candidate.technique.tunes]
    best = max(before, key=lambda one: serving(one.dev).score or 0.0, default=None)
    return {
        "candidate": tuned.candidate.id,
        "base": tuned.candidate.model,
        "model": model.name,
        "start": fitted.start or None,
        "adapter": model.folder.name,
        "recipe": dict(model.recipe),
        "trained_tokens": model.trained_tokens,
        "seconds": model.seconds,
        "cost_usd": model.cost_usd,
        "losses": [list(pair) for pair in model.losses],
        "dev_losses": [list(pair) for pair in model.dev_losses],
        "hosted": model.hosted,
        "notes": list(model.notes),
        "dev_score": serving(tuned.dev).score,
        "best_dev_score_before": None if best is None else serving(best.dev).score,
        "best_before": None if best is None else best.candidate.id,
    }
