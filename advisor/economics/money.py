"""The money side of an outcome: what each candidate's serving costs, and what a fine-tune costs, saves and is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from advisor.candidates import lineup
from advisor.economics.bills import Bill, Machine
from advisor.economics.hosting import machine
from advisor.economics.lifespan import day_of, shutdown_of
from advisor.outcome import Outcome, Row
from advisor.scenario.model import Scenario
from advisor.tuning.paying import Worth, worth
from advisor.tuning.terms import Ends, Priced, Terms, serving_bill, spending, terms
from backends import registry as backends
from backends.basis import PriceBasis
from backends.hardware import Hardware
from backends.openai.lifecycle import Lifecycle
from evals.scorers.base import ModelScorer


@dataclass(frozen=True, slots=True)
class Money:
    """Dollars, and the dates that bound them."""

    day: date
    """On which the run began; days are counted from it."""
    machine: Machine
    """What local models run on."""
    bills: Mapping[str, Bill]
    """By candidate."""
    terms: Terms | None
    """Of a fine-tune against what would be used without it; None where there is no such pair, or no price."""
    worth: Worth | None
    """None without terms or traffic, or where the fine-tune's base is gone."""
    rests_on: Mapping[str, tuple[str, ...]]
    """By candidate: its model, and the further ones that it asks."""
    lifecycles: Mapping[str, Lifecycle]
    """By model, those of candidates first, then the judge's: those whose end is up to their makers."""
    prices: Mapping[str, PriceBasis]
    """By model: what its dollars rest on."""

    @property
    def prices_date(self) -> date | None:
        """The earliest day on which a price that counts was read; None where no source carries a date."""
        return min((basis.date for basis in self.prices.values() if basis.date is not None), default=None)


def money(scenario: Scenario, outcome: Outcome, hardware: Hardware, created: str) -> Money:
    """Work out the money side of what a run found; `created` is when it began."""
    day, under = day_of(created), machine(scenario, hardware)
    rests_on = _rests_on(scenario)
    asked = [*(row.model for row in outcome.rows), *(model for models in rests_on.values() for model in models)]
    lifecycles = _lifecycles([*asked, *_judge(scenario)])
    found = _terms(scenario, outcome, under, lifecycles, day)
    settings = backends.Settings(usd_per_hour=scenario.usd_per_hour)
    return Money(
        day=day,
        machine=under,
        bills={row.id: serving_bill(scenario, _priced(row), under) for row in outcome.rows},
        terms=found,
        worth=_worth(scenario, outcome, found),
        rests_on=rests_on,
        lifecycles=lifecycles,
        prices={model: backends.price_basis(model, settings) for model in dict.fromkeys(asked)},
    )


def rivals(outcome: Outcome) -> tuple[Row, Row] | None:
    """The cheapest certified fine-tune and the cheapest certified candidate without training, where there are both."""
    certified = [row for row in outcome.rows if row.status == "certified"]
    tuned = next((row for row in certified if row.tuned), None)
    prompted = next((row for row in certified if not row.tuned), None)
    return None if tuned is None or prompted is None else (tuned, prompted)


def _rests_on(scenario: Scenario) -> dict[str, tuple[str, ...]]:
    found = lineup(scenario)
    return {one.id: (one.model, *one.others) for one in (*found.prompting, *found.tuning)}


def _judge(scenario: Scenario) -> tuple[str, ...]:
    scorer = scenario.scorer
    return (scorer.asks,) if isinstance(scorer, ModelScorer) and scorer.asks else ()


def _lifecycles(models: Sequence[str]) -> dict[str, Lifecycle]:
    known = {model: backends.lifecycle(model) for model in models}
    return {model: found for model, found in known.items() if found is not None}


def _terms(
    scenario: Scenario, outcome: Outcome, under: Machine, lifecycles: Mapping[str, Lifecycle], day: date
) -> Terms | None:
    """As measured; where no training was measured, as they were expected to be."""
    pair = rivals(outcome)
    if pair is None:
        ahead = None if outcome.escalation is None else outcome.escalation.worth
        return None if ahead is None else ahead.terms
    tuned, prompted = pair
    once = spending(scenario, tuned.fit.cost_usd, tuned.evaluation.cost_usd)
    ends = Ends(day, shutdown_of(lifecycles.get(tuned.model)), success=1.0)
    return terms(scenario, (_priced(tuned), _priced(prompted)), once, under, ends)


def _worth(scenario: Scenario, outcome: Outcome, found: Terms | None) -> Worth | None:
    if rivals(outcome) is None and outcome.escalation is not None:
        return outcome.escalation.worth
    return worth(scenario, found)


def _priced(row: Row) -> Priced:
    return Priced(row.id, row.model, row.measured.usd_per_1k_requests, row.tuned)
