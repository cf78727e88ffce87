"""What training a candidate will take: pilots, the training itself, a teacher's answers, the look at what was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor.candidates import Candidate
from advisor.estimating.counting import Counter
from advisor.estimating.demand import Demand, Demands, added, one_of, times
from advisor.estimating.gauges import Gauges
from advisor.estimating.pricing import Amount, priced
from advisor.scenario.model import Overrides, Scenario, Teacher
from advisor.span import NONE, ONCE, Span
from advisor.techniques.forecast import Plan, Prospect
from advisor.tuning.pilot import FEWEST_DEV, FEWEST_TRAIN, FRACTIONS, MOST_DEV
from backends import registry as backends

_GENERAL = 128
"""Requests that look for what a training made the model forget: 64 questions, before and after."""
_GENERAL_PROMPT, _GENERAL_ANSWER = Span(40, 60, 90), Span(1, 3, 10)
_COUNTED = Span(0.95, 1.0, 1.05)
"""How far counted train tokens may be off."""
_KEPT = Span(0.3, 0.75, 1.0)
"""Share of a teacher's answers that are sure enough to be learnt from, assumed."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What comes before a tuned candidate is tested."""

    plan: Plan
    model: str
    """Under this name the tuned model's requests are priced."""
    training: Amount
    """All trainings, pilots included."""
    pilot_trials: float
    """Dev trials of the pilots."""
    asked: Demands
    """Of the general questions."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a teacher is asked and leaves to learn from; nothing for a candidate that none teaches."""

    asked: Demands
    inputs: Span
    """Inputs that it is asked about."""
    gold: int
    """Train samples that are learnt from beside."""

    @property
    def examples(self) -> Span:
        """What is learnt from."""
        return _KEPT * self.inputs + Span.exactly(self.gold)


def lessons(
    scenario: Scenario, candidate: Candidate, units: Sequence[tuple[Demands, Demands]], gauges: Gauges
) -> Lessons:
    """What it takes to have the candidate taught.

    `units` are what a first answer and a further one ask of each candidate that may teach: nobody knows which will.
    """
    teacher, own = scenario.fine_tune.teacher, len(scenario.task.train)
    if teacher is None or not getattr(candidate.technique, "taught", False) or not units:
        return Lessons({}, NONE, own)
    count = min(teacher.samples, len(teacher.inputs.samples))
    again = Span(0, 1, 1) * max(0, teacher.answers - 1)
    asked = times(added(one_of(first for first, _ in units), times(one_of(more for _, more in units), again)), count)
    share = _afforded(teacher, asked, gauges)
    # Where answers are dear, fewer inputs are asked about.
    inputs = Span(share.high, share.expected, share.low) * count
    return Lessons(times(asked, share), inputs, own if teacher.gold == "include" else 0)


def _afforded(teacher: Teacher, asked: Demands, gauges: Gauges) -> Span:
    """Share of the inputs that the cap in dollars leaves room for, where answers are cheap, as expected, and dear."""
    usd = priced(asked, gauges, in_production=True).usd
    if teacher.usd is None or usd is None:
        return ONCE
    cap = teacher.usd
    return Span(*(min(1.0, cap / cost) if cost else 1.0 for cost in (usd.low, usd.expected, usd.high)))


def trained(
    scenario: Scenario, candidate: Candidate, counter: Counter, taught: Lessons, overrides: Overrides
) -> Trained:
    """Everything up to the test but the teacher's answers."""
    plan = candidate.technique.forecast(scenario.task, Prospect(scenario.seed, native_tools=False))
    if plan is None:
        raise AssertionError(f"{candidate.id} trains and tells no plan")
    model = tuned_name(candidate.model)
    enough = taught.examples.expected >= FEWEST_TRAIN and len(scenario.task.dev) >= FEWEST_DEV
    # What goes on from a tuned model has none.
    goes_on = overrides.continues is not None and overrides.start != "base"
    has_pilot = scenario.fine_tune.pilot and enough and not goes_on
    fractions = (*FRACTIONS, 1.0) if has_pilot else (1.0,)
    amounts = [_training(candidate, counter, plan, taught, fraction) for fraction in fractions]
    trials = len(FRACTIONS) * min(MOST_DEV, len(scenario.task.dev)) if has_pilot else 0
    general = Demand(Span.exactly(_GENERAL), _GENERAL_PROMPT * _GENERAL, NONE, _GENERAL_ANSWER * _GENERAL)
    return Trained(plan, model, Amount.total(*amounts), trials, {candidate.model: general})


def tuned_name(base: str) -> str:
    """What a model tuned from this base is called where its requests have a price of their own."""
    endpoint, _, model = base.partition("/")
    return f"{endpoint}/ft:{model}" if backends.owner(base) == "openai" and not model.startswith("ft:") else base


def _training(candidate: Candidate, counter: Counter, plan: Plan, taught: Lessons, fraction: float) -> Amount:
    examples = taught.examples
    count = max(1, round(fraction * examples.expected))
    each = counter.training_tokens(plan, candidate.model) / max(1, len(plan.training))
    recipe = getattr(candidate.technique, "recipe", {})
    found = counter.gauges[candidate.model].training(round(each * count), count, recipe)
    if found is None:
        return Amount(usd=None, billed_usd=None, seconds=None)
    more = examples * (1 / max(1.0, examples.expected)) if taught.inputs != NONE else _COUNTED
    usd = None if found.usd is None else more * found.usd
    seconds = None if found.seconds is None else more * found.seconds
    return Amount(usd=usd, billed_usd=usd if found.billed else NONE, seconds=seconds)
