"""When prompting falls short: decide about fine-tuning, train, and let the tuned candidate climb like any other."""

from __future__ import annotations

from advisor.candidates import Candidate, Lineup
from advisor.driver import arm, climb
from advisor.events import Escalating
from advisor.findings import Findings
from advisor.ladder import Ladder
from advisor.outcome import Escalation, leading
from advisor.session import Prepared, Session
from advisor.tuning.training import aftermath, train
from backends.errors import InputError


def wanted(session: Session, ladder: Ladder, lineup: Lineup) -> Escalation | None:
    """Why fine-tuning is not tried, or None when it is."""
    when = session.scenario.fine_tune.when
    if ladder.picked is not None and when not in {"always", "pays"}:
        return Escalation("not_reached", f"Fine-tuning was not needed: {ladder.picked} meets the target.")
    if not lineup.tuning:
        reason = next((one.reason for one in lineup.left_out if one.technique == "fine_tune"), "it is not a candidate")
        return Escalation("not_allowed", f"Fine-tuning was not tried: {reason}.")
    return None


async def escalate(session: Session, ladder: Ladder, findings: Findings) -> Escalation:
    """Forecast, tune, measure and test each tuned candidate until one is certified; `findings` takes note of it."""
    refusal = wanted(session, ladder, findings.lineup)
    if refusal is not None:
        return refusal
    reason = _why(session, ladder)
    for candidate in findings.lineup.tuning:
        session.observe(Escalating(candidate.id, reason))
        try:
            found = await _try(session, ladder, findings, candidate, reason)
        except InputError as error:  # data that this model cannot be taught
            findings.failed[candidate.id] = str(error)
            found = Escalation("failed", f"{reason} Training failed: {error}", candidate=candidate.id)
        findings.tunings.append(found)
        findings.escalation = leading(findings.tunings, ladder.picked)
        if found.decision == "tuned" and ladder.standing(candidate.id).status == "certified":
            break
    return findings.escalation or Escalation("failed", reason)


async def _try(session: Session, ladder: Ladder, findings: Findings, candidate: Candidate, reason: str) -> Escalation:
    """One tuned candidate: the pilot, and, unless it says stop, the full training and the test."""
    picked = None if ladder.picked is None else findings.prepared[ladder.picked]
    trained = await train(session, findings, candidate, reason, picked)
    if isinstance(trained, Escalation):
        return trained
    ready, piloted = trained
    ladder.add(arm(ready))
    await climb(session, ladder, findings.prepared)
    ending = _ending(ladder, ready)
    return await aftermath(session, findings, ready, piloted, f"{reason} {ending}")


def _why(session: Session, ladder: Ladder) -> str:
    if ladder.picked is not None and session.scenario.fine_tune.when == "pays":
        return f"{ladder.picked} meets the target; a fine-tune was considered because it might be cheaper over time."
    if ladder.picked is not None:
        return "fine_tune.when is always, so a model was tuned although a candidate met the target."
    if ladder.verdict == "escalate":
        return "Every candidate without training was ruled out, so a model was tuned."
    return "No candidate without training could be shown to meet the target, so a model was tuned."


def _ending(ladder: Ladder, tuned: Prepared) -> str:
    standing = ladder.standing(tuned.candidate.id)
    return f"On {standing.n} of the same test samples the tuned model is {standing.status}."
