"""What would change the advice: another target, another volume, other prices, more samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from advisor.advice.phrases import dollars, percent
from advisor.economics.money import Money
from advisor.outcome import Outcome, Row
from advisor.scenario.model import Scenario
from backends.wording import counted

_TELLING = 0.005
"""A target nearer than this to the one asked for is the same target."""
_WORTH = 0.5
"""Nobody who asked for a target takes less than this share of it."""


def changes(scenario: Scenario, outcome: Outcome, money: Money) -> tuple[str, ...]:
    """One sentence for each; none while a run is unfinished."""
    if outcome.stopped is not None:
        return ()
    picked = None if outcome.pick is None else outcome.row(outcome.pick)
    return (
        *_lower_target(scenario, outcome, picked),
        *_higher_target(scenario, picked),
        *_more_samples(outcome, picked),
        *_price(outcome, picked),
        *_volume(scenario, picked, money),
    )


def _lower_target(scenario: Scenario, outcome: Outcome, picked: Row | None) -> Iterator[str]:
    """The candidate that would be picked at the least reduction: of those cheaper than the pick, where there is one."""
    shown = [row for row in _cheaper(outcome, picked) if row.interval is not None and row.status not in {"failed"}]
    best = max(shown, key=lambda row: 0.0 if row.interval is None else row.interval.low, default=None)
    least = _WORTH * scenario.goal.target
    if best is None or best.interval is None or not least <= best.interval.low < scenario.goal.target - _TELLING:
        return
    price = dollars(best.measured.usd_per_1k_requests)
    instead = "" if picked is None else f" instead of {dollars(picked.measured.usd_per_1k_requests)}"
    yield (
        f"With a target of {percent(best.interval.low)} or less, {best.id} would do, at {price}{instead} per 1,000 "
        "requests."
    )


def _cheaper(outcome: Outcome, picked: Row | None) -> Sequence[Row]:
    """All that were tested where nothing is picked, else those that cost less than the pick."""
    if picked is None:
        return [row for row in outcome.rows if row.samples]
    price = picked.measured.usd_per_1k_requests
    if price is None:
        return ()
    others = [(row, row.measured.usd_per_1k_requests) for row in outcome.rows if row.samples and row is not picked]
    return [row for row, usd in others if usd is not None and usd < price]


def _higher_target(scenario: Scenario, picked: Row | None) -> Iterator[str]:
    if picked is not None and picked.interval is not None and picked.interval.low > scenario.goal.target + _TELLING:
        yield f"For targets up to {percent(picked.interval.low)} the pick stays the same."


def _more_samples(outcome: Outcome, picked: Row | None) -> Iterator[str]:
    undecided = [row for row in _cheaper(outcome, picked) if row.status in {"unresolved", "hopeless"}]
    if picked is not None:
        for row in undecided[:1]:
            price = dollars(row.measured.usd_per_1k_requests)
            yield f"More test samples could show that {row.id} meets the target too, at {price} per 1,000 requests."
    elif outcome.outlook is not None and outcome.outlook.samples_needed is not None:
        outlook = outcome.outlook
        yield f"{outlook.samples_needed} test samples in all could show that {outlook.arm} meets the target."


def _price(outcome: Outcome, picked: Row | None) -> Iterator[str]:
    """The next certified candidate, and from which price of the pick on it would be the cheaper one."""
    if picked is None or (own := picked.measured.usd_per_1k_requests) is None:
        return
    others = [
        (usd, row)
        for row in outcome.rows
        if row.status == "certified" and row is not picked and (usd := row.measured.usd_per_1k_requests) is not None
    ]
    price = dollars(own)
    if same := [row for usd, row in others if dollars(usd) == price]:
        yield f"{same[0].id} meets the target too, at the same {price} per 1,000 requests, and would do as well."
    elif dearer := [(usd, row) for usd, row in others if usd > own]:
        usd, row = min(dearer, key=lambda pair: pair[0])
        price = dollars(usd)
        yield f"If the pick came to cost more than {price} per 1,000 requests, {row.id} would be the cheaper one."


def _volume(scenario: Scenario, picked: Row | None, money: Money) -> Iterator[str]:
    if money.terms is None or picked is None:
        return
    candidate, against, even = money.terms.candidate, money.terms.against, money.terms.break_even
    if even is None:
        yield f"No volume would make {candidate} the cheaper one: it saves nothing on a request, or its base is gone."
    elif picked.tuned:
        volume = f"{counted(even, 'request', ',.0f')} a month"
        yield f"Below {volume} its training does not come back, and {against} is the cheaper one."
    else:
        volume = f"{counted(even, 'request', ',.0f')} a month"
        yield f"From {volume} on, {candidate} would be cheaper than {against}, training included."
