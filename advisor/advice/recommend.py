"""The recommendation in words: built from facts by plain code, no model writes it."""

from __future__ import annotations

from dataclasses import dataclass

from advisor.advice.changes import changes
from advisor.advice.next_steps import next_steps
from advisor.advice.phrases import dollars, percent
from advisor.advice.risks import Risk, risks
from advisor.commands import Commands
from advisor.economics.money import Money
from advisor.outcome import Outcome, Row
from advisor.resolution import Resolution
from advisor.scenario.model import Scenario
from advisor.tuning.paying import told
from backends.wording import counted


@dataclass(frozen=True, slots=True)
class Advice:
    """What to tell the user."""

    because: tuple[str, ...]
    """The reasons for the verdict; the first sentence is the verdict itself."""
    would_change: tuple[str, ...]
    """What would make it another advice."""
    risks: tuple[Risk, ...]
    next_steps: tuple[str, ...]


def advise(scenario: Scenario, outcome: Outcome, resolved: Resolution, money: Money, commands: Commands) -> Advice:
    """Put an outcome into words."""
    because = [_headline(scenario, outcome)]
    because += [_fate(row) for row in outcome.rows if row.id != outcome.pick]
    because += [_why_short(row) for row in outcome.rows if row.diagnosis is not None and row.diagnosis.causes]
    if outcome.escalation is not None:
        because.append(outcome.escalation.reason)
    because += _tuned_economics(money)
    because += [
        f"{name} is dominated: {better[0]} scores better and costs no more." for name, better in _dominated(outcome)
    ]
    if outcome.may_be_best:
        because.append(f"The highest score may be that of {' or '.join(outcome.may_be_best)}.")
    return Advice(
        because=tuple(because),
        would_change=changes(scenario, outcome, money),
        risks=risks(scenario, outcome, resolved, money),
        next_steps=next_steps(scenario, outcome, money, commands),
    )


def _dominated(outcome: Outcome) -> list[tuple[str, tuple[str, ...]]]:
    return [(name, better) for name, better in outcome.dominated_by.items() if better]


def _headline(scenario: Scenario, outcome: Outcome) -> str:
    goal = scenario.goal
    if outcome.pick is not None:
        row = outcome.row(outcome.pick)
        name = row.id.removesuffix(f"@{row.model}")
        return (
            f"{name} on {row.model} meets {percent(goal.target)} ({_score(row, goal.confidence)}) at "
            f"{dollars(row.measured.usd_per_1k_requests)} per 1,000 requests{_speed(row)}."
        )
    if outcome.stopped is not None:
        return f"Stopped before a verdict: {outcome.stopped}"
    if outcome.verdict == "escalate":
        reach = percent(goal.target + goal.margin)
        return f"No candidate reaches {reach}, the target of {percent(goal.target)} plus the margin."
    return f"No candidate could be shown to meet {percent(goal.target)} with these test samples."


def _score(row: Row, confidence: float) -> str:
    if row.interval is None or row.test.score is None:
        return f"n={row.samples}"
    interval = f"{percent(confidence)} interval {row.interval.low:.2f}-{row.interval.high:.2f}"
    fresh = "" if row.fresh is None else f"; {row.fresh.value:.2f} on samples that had no part in picking it"
    proved = "" if row.at_least is None else f"proved: at least {row.at_least:.3f}; "
    return f"{proved}n={row.samples}, mean {row.test.score:.2f}, {interval}{fresh}"


def _speed(row: Row) -> str:
    median = row.measured.p50_seconds
    return "" if median is None else f", {median:.2g} s at the median"


_FATES = {
    "eliminated": "was eliminated",
    "hopeless": "was given up",
    "unresolved": "stayed undecided",
    "failed": "failed",
    "skipped": "was skipped",
    "not_needed": "was not needed",
    "certified": "meets the target too",
}


def _fate(row: Row) -> str:
    # A sentence that begins with a candidate's name keeps it as it is.
    reason = row.reason if "@" in row.reason.partition(" ")[0] else f"{row.reason[:1].upper()}{row.reason[1:]}"
    return f"{row.id} {_FATES[row.status]}. {reason}"


def _why_short(row: Row) -> str:
    """The commonest causes of a candidate's failures, those behind at least a tenth of them."""
    assert row.diagnosis is not None
    causes = sorted(row.diagnosis.causes, key=lambda cause: -cause.share)
    main = [cause for cause in causes if cause.share >= 0.1][:3] or causes[:1]
    named = ", ".join(f"{cause.cause.replace('_', ' ')} {percent(cause.share)}" for cause in main)
    return f"Of {counted(row.diagnosis.n_looked_at, 'failure')} of {row.id} looked into: {named}."


def _tuned_economics(money: Money) -> list[str]:
    if money.worth is not None:
        return [f"Fine-tuning: {told(money.worth)}"]
    found = money.terms
    if found is None or found.break_even is None:
        return []
    return [
        f"{found.candidate} costs {dollars(found.spending.usd)} once and pays against {found.against} from "
        f"{counted(found.break_even, 'request', ',.0f')} a month over {counted(found.life.months, 'month', '.3g')}."
    ]
