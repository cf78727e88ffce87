"""Training a candidate: the pilot that gates it, the training, and what is looked at afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from advisor.candidates import Candidate
from advisor.driver import prepare_or_note
from advisor.findings import Findings
from advisor.measure import serving
from advisor.outcome import Escalation
from advisor.session import Prepared, Session
from advisor.techniques.fine_tune import FittedFineTune
from advisor.tuning.forgetting import Forgetting, forgetting
from advisor.tuning.paying import Worth, told, worth_ahead
from advisor.tuning.pilot import Pilot, pilot
from backends import registry as backends
from backends.errors import BudgetError
from backends.types import Parity

_PARITY_SAMPLES = 12
"""Test prompts that the forms of a tuned model are compared on: a difference that matters shows on most prompts."""


async def train(
    session: Session, findings: Findings, candidate: Candidate, reason: str, instead_of: Prepared | None = None
) -> tuple[Prepared, Pilot | None] | Escalation:
    """Pilot and train a candidate; an Escalation where it ends before there is a tuned model to test.

    `instead_of` is a candidate that meets the target already: training must then pay against it.
    """
    piloted = await pilot(session, candidate)
    against, ahead = _against(session, candidate, piloted, instead_of)
    if against is not None:
        findings.stopped_by_pilot[candidate.id] = against
        if piloted is not None:
            findings.pilot_costs[candidate.id] = piloted.cost
        return Escalation("stopped", f"{reason} {against}", pilot=piloted, worth=ahead)
    ready = await prepare_or_note(session, candidate, findings.failed)
    if ready is None:
        return Escalation("failed", f"{reason} Training failed: {findings.failed[candidate.id]}", pilot=piloted)
    if piloted is not None:
        ready = replace(ready, cost=ready.cost + piloted.cost)
    findings.prepared[candidate.id] = ready
    return ready, piloted


def _against(
    session: Session, candidate: Candidate, piloted: Pilot | None, instead_of: Prepared | None
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
    price = serving(instead_of.dev).usd_per_1k_requests
    ahead = worth_ahead(session.scenario, candidate.id, (instead_of.candidate.id, price), piloted)
    if ahead is None:
        return "Whether it would pay cannot be told without prices; the full training was not begun.", None
    if ahead.value.mean <= 0:
        return f"{outlook(piloted)} {told(ahead)} The full training was not begun.", ahead
    return None, ahead


async def aftermath(
    session: Session, findings: Findings, tuned: Prepared, piloted: Pilot | None, text: str
) -> Escalation:
    """What a tested model forgot and whether its forms agree; a budget that ends here undoes nothing."""
    forgot: Forgetting | None = None
    alike: Parity | None = None
    try:
        forgot = await forgetting(session, tuned)
        alike = await _parity(session, tuned)
    except BudgetError as error:
        text = f"{text} What it forgot was not measured: {error}"
    reason = f"{text} {outlook(piloted)}" if piloted else text
    return Escalation("tuned", reason, facts(tuned, findings.prepared), piloted, forgot, parity=alike)


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
    others = [one for one in prepared.values() if one is not tuned and one.candidate.model == tuned.candidate.model]
    best = max(others, key=lambda one: serving(one.dev).score or 0.0, default=None)
    return {
        "candidate": tuned.candidate.id,
        "base": tuned.candidate.model,
        "model": model.name,
        "adapter": model.folder.name,
        "recipe": dict(model.recipe),
        "trained_tokens": model.trained_tokens,
        "seconds": model.seconds,
        "cost_usd": model.cost_usd,
        "losses": [list(pair) for pair in model.losses],
        "dev_losses": [list(pair) for pair in model.dev_losses],
        "dev_score": serving(tuned.dev).score,
        "best_dev_score_before": None if best is None else serving(best.dev).score,
        "best_before": None if best is None else best.candidate.id,
    }
