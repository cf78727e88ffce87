"""The recommendation in words: built from facts by plain code, no model writes it."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass

from advisor import economics
from advisor.diagnosis.causes import Cause
from advisor.outcome import Outcome, Row
from advisor.resolution import Resolution
from advisor.scenario.model import Scenario
from advisor.standing import Outlook
from advisor.tuning.paying import Worth, told, worth
from evals.scorers.judge import JUDGE_WARNING


@dataclass(frozen=True, slots=True)
class Risk:
    """Something that could make the advice wrong later."""

    kind: str
    text: str
    date: str | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to tell the user."""

    because: tuple[str, ...]
    """The reasons for the verdict; the first sentence is the verdict itself."""
    risks: tuple[Risk, ...]
    next_steps: tuple[str, ...]


def advise(scenario: Scenario, outcome: Outcome, resolved: Resolution, run_id: str) -> Advice:
    """Put an outcome into words."""
    because = [_headline(scenario, outcome)]
    because += [_fate(row) for row in outcome.rows if row.id != outcome.pick]
    because += [_why_short(row) for row in outcome.rows if row.diagnosis is not None and row.diagnosis.causes]
    if outcome.escalation is not None:
        because.append(outcome.escalation.reason)
    because += _tuned_economics(scenario, outcome)
    because += [
        f"{name} is dominated: {better[0]} scores better and costs no more." for name, better in _dominated(outcome)
    ]
    if outcome.may_be_best:
        because.append(f"The highest score may be that of {' or '.join(outcome.may_be_best)}.")
    return Advice(
        tuple(because), tuple(_risks(scenario, outcome, resolved)), tuple(_next_steps(scenario, outcome, run_id))
    )


def _dominated(outcome: Outcome) -> list[tuple[str, tuple[str, ...]]]:
    return [(name, better) for name, better in outcome.dominated_by.items() if better]


def tuned_break_even(scenario: Scenario, outcome: Outcome) -> economics.BreakEven | None:
    """Break-even of the certified tuned candidate against the cheapest certified one that needs no training."""
    tuned, prompted = _rivals(outcome)
    if tuned is None or prompted is None:
        return None
    return economics.break_even(
        (tuned.id, tuned.measured.usd_per_1k_requests),
        (prompted.id, prompted.measured.usd_per_1k_requests),
        tuned.fit.cost_usd,
        scenario.traffic.months,
    )


def tuned_worth(scenario: Scenario, outcome: Outcome) -> Worth | None:
    """Net present value of the same, as measured; before the training, what it was expected to be."""
    tuned, prompted = _rivals(outcome)
    if tuned is None or prompted is None:
        return None if outcome.escalation is None else outcome.escalation.worth
    return worth(
        scenario,
        (tuned.id, tuned.measured.usd_per_1k_requests),
        (prompted.id, prompted.measured.usd_per_1k_requests),
        tuned.fit.cost_usd,
        success=1.0,
    )


def _rivals(outcome: Outcome) -> tuple[Row | None, Row | None]:
    tuned = next((row for row in outcome.rows if row.tuned and row.status == "certified"), None)
    prompted = next((row for row in outcome.rows if not row.tuned and row.status == "certified"), None)
    return tuned, prompted


def percent(value: float) -> str:
    """A score as people say it: 0.85 -> 85 %."""
    return f"{100 * value:.3g} %"


def dollars(value: float | None) -> str:
    """Dollars with three significant digits; unknown stays unknown."""
    if value is None:
        return "an unknown price"
    return f"${value:,.2f}" if value >= 1 else f"${value:.3g}"


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
    low, high = row.interval.low, row.interval.high
    fresh = "" if row.fresh is None else f"; {row.fresh.value:.2f} on samples that had no part in picking it"
    return f"n={row.samples}, mean {row.test.score:.2f}, {percent(confidence)} interval {low:.2f}-{high:.2f}{fresh}"


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
    return f"Of {row.diagnosis.n_looked_at} failures of {row.id} looked into: {named}."


def _tuned_economics(scenario: Scenario, outcome: Outcome) -> list[str]:
    even = tuned_break_even(scenario, outcome)
    if even is None:
        return []
    found = tuned_worth(scenario, outcome)
    if found is not None:
        return [f"Fine-tuning: {told(found)}"]
    return [
        f"{even.candidate} costs {dollars(even.fixed_usd)} to train and pays against {even.against} from "
        f"{even.requests_per_month:,.0f} requests a month over {scenario.traffic.months:g} months."
    ]


def _risks(scenario: Scenario, outcome: Outcome, resolved: Resolution) -> list[Risk]:
    risks: list[Risk] = []
    if not resolved.suffices:
        risks.append(Risk("small_test_split", str(resolved)))
    picked = None if outcome.pick is None else outcome.row(outcome.pick)
    if scenario.volatility in {"daily", "realtime"} and picked is not None and picked.tuned:
        risks.append(
            Risk(
                "volatile_knowledge",
                f"The knowledge changes ({scenario.volatility}); a tuned model does not learn of it. "
                "Prefer a candidate that reads documents or calls tools.",
            )
        )
    if picked is not None and picked.measured.usd_per_1k_requests is None:
        risks.append(Risk("unknown_price", f"The price of {picked.model} is not known; costs are not compared."))
    if scenario.usd_per_hour is None and any(row.model.startswith("local/") for row in outcome.rows):
        risks.append(
            Risk(
                "assumed_price",
                "Dollars of local models rest on a default price of this machine; set hosting.usd_per_hour to yours.",
            )
        )
    if picked is not None and picked.fresh is not None and picked.fresh.high < scenario.goal.target:
        risks.append(
            Risk(
                "fresh_score",
                f"On samples that had no part in picking it, {picked.id} scores {picked.fresh.value:.2f} "
                f"({picked.fresh.low:.2f}-{picked.fresh.high:.2f}), below the target: look into it first.",
            )
        )
    probe = None if outcome.escalation is None else outcome.escalation.forgetting
    if probe is not None and probe.high < 0:
        risks.append(
            Risk(
                "forgetting",
                f"The tuned model forgot: on {probe.n} general questions it fell from {probe.before:.2f} to "
                f"{probe.after:.2f}. Use it for this task only.",
            )
        )
    alike = None if outcome.escalation is None else outcome.escalation.parity
    if alike is not None and alike.differing:
        risks.append(
            Risk(
                "parity",
                f"{alike.differing} answers differ between the forms of the tuned model ({', '.join(alike.forms)}) on "
                f"{alike.prompts} prompts; deploy the form that was measured, the merged one.",
            )
        )
    risks += _judge_risks(outcome)
    if outcome.undiagnosed is not None:
        risks.append(Risk("undiagnosed", f"Not every candidate that fell short was diagnosed: {outcome.undiagnosed}"))
    errors = sum(row.errors for row in outcome.rows)
    texts = [text for row in outcome.rows for text, _ in row.error_texts]
    seen = f" (for instance {texts[0]!r})" if texts else ""
    if errors:
        risks.append(Risk("errors", f"{errors} test samples got no answer{seen}; they are errors, not wrong answers."))
    return risks


def _remedies(outcome: Outcome) -> list[str]:
    """What the diagnosis of the best candidate advises; without one, to look oneself."""
    looked = [row for row in outcome.rows if row.diagnosis is not None and row.diagnosis.causes]
    best = max(looked, key=lambda row: row.test.score or 0.0, default=None)
    if best is None or best.diagnosis is None:
        return ["Look at the wrong answers before anything else; a label that people dispute cannot be learnt."]
    causes = sorted(best.diagnosis.causes, key=lambda cause: -cause.share)
    tried = {row.technique for row in outcome.rows if row.samples}
    return [f"{best.id}: {_remedy(cause, tried)}" for cause in causes if cause.share >= 0.2 and cause.advice]


def _remedy(cause: Cause, tried: Collection[str]) -> str:
    """What a cause calls for, without what was tried already."""
    behind = f"{percent(cause.share)} of its failures are {cause.cause.replace('_', ' ')}."
    left = [one for one in cause.points_to if one not in tried]
    if len(left) == len(cause.points_to):
        return f"{behind} {cause.advice}"
    return f"{behind} Left to try: {', '.join(left)}." if left else f"{behind} All that could help was tried."


def _judge_risks(outcome: Outcome) -> list[Risk]:
    """What rests on a model's opinion must say so."""
    check = outcome.judge_check
    if check is None:
        return []
    risks = [Risk("judge", JUDGE_WARNING[:1].upper() + JUDGE_WARNING[1:])]
    if check.competes:
        risks.append(Risk("judge", f"{check.model} judges its own answers and is likely to favour them; name another."))
    found = None if check.calibration is None else check.calibration.agreement
    if found is not None:
        share = found.share_equal
        risks.append(
            Risk(
                "judge",
                f"The judge gave the same score as people on {percent(share.value)} of {found.n} answers "
                f"({percent(share.low)} to {percent(share.high)}).",
            )
        )
    return risks


def _outlook(outlook: Outlook) -> list[str]:
    """What would settle an undecided climb, and what accepting its best candidate would lack."""
    steps = []
    if outlook.extra_samples:
        price = "" if outlook.usd is None else f" and {dollars(outlook.usd)} of trials"
        steps.append(
            f"Label {outlook.extra_samples} more test samples: with {outlook.samples_needed} in all{price}, a "
            f"candidate as good as {outlook.arm} looks now is certified in 8 of 10 runs."
        )
    steps.append(
        f"Or accept {outlook.arm} unproved: it is expected to miss the target by {100 * outlook.shortfall:.2g} points."
    )
    return steps


def _next_steps(scenario: Scenario, outcome: Outcome, run_id: str) -> list[str]:
    steps: list[str] = []
    place = shlex.quote(str(scenario.folder if scenario.file.name == "scenario.yaml" else scenario.file))
    if outcome.stopped is not None:
        steps.append(f"Go on where this run stopped: advisor {outcome.kind} {place} --resume {run_id}")
    elif outcome.pick is None:
        steps += _remedies(outcome)
        if outcome.outlook is not None:
            steps += _outlook(outcome.outlook)
        if outcome.escalation is not None and outcome.escalation.decision == "not_allowed":
            steps.append("Allow fine-tuning: set fine_tune.when to needed.")
        steps.append("Name a larger model under models, or lower goal.target if the business can live with it.")
    elif outcome.kind == "run":
        steps.append(f"Compare every candidate on all test samples: advisor compare {place}")
    return steps
