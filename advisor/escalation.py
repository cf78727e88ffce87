"""When prompting falls short: decide about fine-tuning, train, and let the tuned candidate climb like any other."""

from __future__ import annotations

from typing import Any

from advisor.candidates import Candidate, Lineup
from advisor.driver import arm, climb
from advisor.events import Escalating
from advisor.ladder import Ladder
from advisor.measure import serving
from advisor.outcome import Escalation
from advisor.session import Prepared, Session
from advisor.techniques.fine_tune import FittedFineTune
from backends.errors import InputError, RequestError


def wanted(session: Session, ladder: Ladder, lineup: Lineup) -> Escalation | None:
    """Why fine-tuning is not tried, or None when it is."""
    when = session.scenario.fine_tune.when
    if ladder.picked is not None and when != "always":
        return Escalation("not_reached", f"Fine-tuning was not needed: {ladder.picked} meets the target.")
    if not lineup.tuning:
        reason = next((one.reason for one in lineup.left_out if one.technique == "fine_tune"), "it is not a candidate")
        return Escalation("not_allowed", f"Fine-tuning was not tried: {reason}.")
    return None


async def escalate(
    session: Session, ladder: Ladder, lineup: Lineup, prepared: dict[str, Prepared], failed: dict[str, str]
) -> Escalation:
    """Tune, measure and test each tuned candidate until one is certified; `prepared` and `failed` take note of it."""
    refusal = wanted(session, ladder, lineup)
    if refusal is not None:
        return refusal
    reason = _why(session, ladder)
    result = Escalation("failed", reason)
    for candidate in lineup.tuning:
        session.observe(Escalating(candidate.id, reason))
        try:
            ready = await prepare_or_note(session, candidate, failed)
        except InputError as error:  # data that this model cannot be taught
            ready, failed[candidate.id] = None, str(error)
        if ready is None:
            result = Escalation("failed", f"{reason} Training failed: {failed[candidate.id]}")
            continue
        prepared[candidate.id] = ready
        ladder.add(arm(ready))
        await climb(session, ladder, prepared)
        result = Escalation("tuned", f"{reason} {_ending(ladder, ready)}", facts(ready, prepared))
        if ladder.picked is not None:
            break
    return result


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


def _why(session: Session, ladder: Ladder) -> str:
    if ladder.picked is not None:
        return "fine_tune.when is always, so a model was tuned although a candidate met the target."
    if ladder.verdict == "escalate":
        return "Every candidate without training was ruled out, so a model was tuned."
    return "No candidate without training could be shown to meet the target, so a model was tuned."


def _ending(ladder: Ladder, tuned: Prepared) -> str:
    standing = ladder.standing(tuned.candidate.id)
    return f"On {standing.n} of the same test samples the tuned model is {standing.status}."
