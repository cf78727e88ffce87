"""What to do next, with the commands that do it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from advisor.advice.phrases import dollars, percent
from advisor.candidates import lineup
from advisor.commands import Commands
from advisor.diagnosis.causes import MEANINGS, Cause
from advisor.economics.lifespan import days_until
from advisor.economics.money import Money
from advisor.outcome import Outcome, Row
from advisor.scenario.model import Scenario
from advisor.standing import Outlook
from backends.errors import InputError
from backends.wording import counted

_ADDED = 2
"""Groups of samples to add that are named among the next steps; the report has them all."""


def next_steps(scenario: Scenario, outcome: Outcome, money: Money, commands: Commands) -> tuple[str, ...]:
    """The steps, most useful first."""
    if outcome.stopped is not None:
        return (f"Go on where this run stopped: {commands.resume(outcome.kind)}",)
    if outcome.pick is None:
        steps = (*_to_the_data(outcome, commands), *_without_a_pick(scenario, outcome))
        return (*steps, *_before_training_ends(scenario, outcome, money))
    return tuple(_with_a_pick(outcome, outcome.row(outcome.pick), money, commands))


def _with_a_pick(outcome: Outcome, picked: Row, money: Money, commands: Commands) -> Iterator[str]:
    if outcome.kind == "run":
        yield f"Compare every candidate on all test samples: {commands.about('compare')}"
    yield f"Serve the pick by the OpenAI protocol: {commands.of_run('serve')}"
    yield from _moving_on(picked, money, commands)
    untried = outcome.escalation is not None and outcome.escalation.decision == "not_reached"
    if untried and any(row.tuned for row in outcome.rows):
        yield f"See what a fine-tune would reach and cost: {commands.about('tune')}"
    yield f"Notice when it gets worse, in CI for instance: {commands.about('gate', '--against', commands.run_id)}"


def _moving_on(picked: Row, money: Money, commands: Commands) -> Iterator[str]:
    """Away from a model that stops."""
    known = money.lifecycles.get(picked.model)
    if known is None or known.shutdown is None:
        return
    endpoint = picked.model.partition("/")[0]
    if known.replacement:
        both = f"{picked.model},{endpoint}/{known.replacement}"
        yield f"Try what is to replace it before {known.shutdown}: {commands.about('compare', '--models', both)}"
    if "/ft:" in picked.model and days_until(known.shutdown, money.day) > 0:
        yield f"Record answers of {picked.model} before {known.shutdown}; afterwards they cannot be had."


def _before_training_ends(scenario: Scenario, outcome: Outcome, money: Money) -> Iterator[str]:
    if scenario.fine_tune.when == "never":
        return
    models = {scenario.fine_tune.base, *(row.model for row in outcome.rows if row.tuned)}
    for model, known in money.lifecycles.items():
        if model in models and known.training_ends is not None and days_until(known.training_ends, money.day) >= 0:
            yield f"Begin trainings of {model} by {known.training_ends}, or tune a local model instead."


def _to_the_data(outcome: Outcome, commands: Commands) -> Iterator[str]:
    """A tuned model that falls short: what to add to its data, and training on with them."""
    found = None if outcome.escalation is None else outcome.escalation.mistakes
    if found is None or not found.advice:
        return
    *wanted, keep_out = found.advice
    yield from wanted[:_ADDED]
    yield keep_out
    yield f"Train on with the new data: {commands.about('tune', '--continue', commands.run_id)}"


def _without_a_pick(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    few = _too_few(outcome)
    if few:
        yield "Add test samples, or leave out --limit: so few cannot show that any candidate meets the target."
    else:
        yield from _remedies(outcome)
    if outcome.outlook is not None:
        yield from _outlook(outcome.outlook)
    if few:
        return
    if outcome.escalation is not None and outcome.escalation.decision == "not_allowed" and _may_be_allowed(scenario):
        yield "Allow fine-tuning: set fine_tune.when to needed."
    yield "Name a larger model under models, or lower goal.target if the business can live with it."


def _too_few(outcome: Outcome) -> bool:
    """Whether only samples are lacking: no answer was wrong and that proves nothing."""
    undecided = [row for row in outcome.rows if row.status in {"unresolved", "hopeless"}]
    return any(row.samples and row.test.score == 1.0 and not row.errors for row in undecided)


def _may_be_allowed(scenario: Scenario) -> bool:
    """Whether nothing but `fine_tune.when` keeps a model from being tuned."""
    if scenario.fine_tune.when != "never":
        return False
    try:
        return bool(lineup(replace(scenario, fine_tune=replace(scenario.fine_tune, when="needed"))).tuning)
    except InputError:
        return False


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
    # `points_to` leaves out what the candidate itself is; the advice may begin or end with that.
    if len(left) == len(MEANINGS[cause.cause].points_to):
        return f"{behind} {cause.advice}"
    return f"{behind} Left to try: {', '.join(left)}." if left else f"{behind} All that could help was tried."


def _outlook(outlook: Outlook) -> Iterator[str]:
    """What would settle an undecided climb, and what accepting its best candidate would lack."""
    if outlook.extra_samples:
        price = "" if outlook.usd is None else f" and {dollars(outlook.usd)} of trials"
        yield (
            f"Label {counted(outlook.extra_samples, 'more test sample')}: with {outlook.samples_needed} in all{price}, "
            f"a candidate as good as {outlook.arm} looks now is certified in 8 of 10 runs."
        )
    yield (
        f"Or accept {outlook.arm} unproved: it is expected to miss the target by {100 * outlook.shortfall:.2g} points."
    )
