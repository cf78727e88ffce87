"""What the money figures rest on: each assumption with its value, where it comes from and the key that sets it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from advisor.economics.lifespan import retraining_months
from advisor.economics.money import Money, rivals
from advisor.outcome import Outcome
from advisor.scenario.model import Scenario
from advisor.tuning.paying import Worth
from advisor.tuning.terms import Terms

Source = Literal["scenario", "default", "measured", "forecast", "table", "advisor.toml"]


@dataclass(frozen=True, slots=True)
class Assumption:
    """One of them."""

    name: str
    value: float | bool | None
    """None when nothing is assumed, or the note says it in words."""
    unit: str
    source: Source
    key: str | None
    """Key of the scenario that sets it; None for what was measured."""
    note: str = ""


def assumptions(scenario: Scenario, outcome: Outcome, money: Money) -> tuple[Assumption, ...]:
    """All that the figures of this run rest on; those on fine-tuning where its economics were worked out."""
    return (
        *_traffic(scenario),
        *_prices(scenario, money),
        *_hosting(scenario, outcome, money),
        *(() if money.terms is None else _fine_tune(scenario, money.terms, forecast=rivals(outcome) is None)),
        *(() if money.worth is None else _simulated(scenario, money.worth)),
    )


def _stated(
    scenario: Scenario, name: str, value: float | bool | None, unit: str, key: str, note: str = ""
) -> Assumption:
    """An assumption that a key of the scenario sets, or its default."""
    return Assumption(name, value, unit, "scenario" if key in scenario.stated else "default", key, note)


def _traffic(scenario: Scenario) -> Iterator[Assumption]:
    traffic = scenario.traffic
    missing = "not given: dollars a month are not known" if traffic.requests_per_month is None else ""
    yield _stated(
        scenario, "volume", traffic.requests_per_month, "requests a month", "traffic.requests_per_month", missing
    )
    yield _stated(scenario, "horizon", traffic.months, "months", "traffic.months")
    if traffic.usd_per_error is not None:
        yield _stated(scenario, "a wrong answer", traffic.usd_per_error, "$", "traffic.usd_per_error")


def _prices(scenario: Scenario, money: Money) -> Iterator[Assumption]:
    for model, basis in money.prices.items():
        if not model.startswith("local/"):
            source: Source = "advisor.toml" if basis.given else "table"
            yield Assumption(f"price of {model}", None, "$ per 1M tokens", source, None, basis.text)


def _hosting(scenario: Scenario, outcome: Outcome, money: Money) -> Iterator[Assumption]:
    local = next((basis for model, basis in money.prices.items() if model.startswith("local/")), None)
    if local is not None:
        machine = money.machine
        source: Source = "scenario" if local.given else "table" if local.date else "default"
        yield Assumption(
            "the machine", machine.usd_per_hour, "$ an hour", source, "hosting.usd_per_hour", _without_price(local.text)
        )
        yield _stated(scenario, "utilisation", machine.utilisation, "of paid time", "hosting.utilisation")
        yield _stated(scenario, "always on", machine.always_on, "", "hosting.always_on")
    if any(row.tuned for row in outcome.rows) and (fee := scenario.economics.tuned_usd_per_month):
        yield _stated(scenario, "deployment fee", fee, "$ a month", "economics.tuned_usd_per_month")


def _without_price(text: str) -> str:
    """Who says what an hour costs, without the price that stands before it."""
    return text.rpartition(" an hour: ")[2]


def _fine_tune(scenario: Scenario, terms: Terms, *, forecast: bool) -> Iterator[Assumption]:
    found: Source = "forecast" if forecast else "measured"
    once, labels = terms.spending, len(scenario.task.train) + len(scenario.task.dev)
    yield _stated(
        scenario,
        "labels",
        once.labels_usd,
        "$",
        "economics.usd_per_label",
        f"{labels} train and dev labels at ${scenario.economics.usd_per_label:g}",
    )
    yield Assumption("training", once.training_usd, "$", found, None, "the pilot included")
    share = scenario.economics.evaluation_share
    yield Assumption(
        "evaluation", once.evaluation_usd, "$", found, "economics.evaluation_share", f"{100 * share:g} % of it counts"
    )
    yield Assumption("saving", 1000 * terms.saving_usd_per_request, "$ per 1,000 requests", found, None)
    if terms.hosting_usd_per_month:
        yield Assumption("hosting", terms.hosting_usd_per_month, "$ a month", found, "hosting", "more than without it")
    yield from _life(scenario, terms)
    stated = forecast and scenario.economics.success is not None
    chance: Source = "scenario" if stated else found
    yield Assumption("success", terms.success, "probability", chance, "economics.success")


def _life(scenario: Scenario, terms: Terms) -> Iterator[Assumption]:
    again = retraining_months(scenario)
    note = f"by knowledge.volatility: {scenario.volatility}" + ("" if again is not None else ", so never")
    if scenario.economics.retraining_months is not None:
        note = ""
    yield _stated(scenario, "retraining", again, "months", "economics.retraining_months", note)
    if terms.life.limit is not None:
        limit = max(0.0, terms.life.limit)
        yield Assumption("shutdown of the base", limit, "months", "table", None, "from the day of the run")
    yield Assumption("life of a fine-tune", terms.life.months, "months", "default", None, "the shortest of these")


def _simulated(scenario: Scenario, worth: Worth) -> Iterator[Assumption]:
    plan = scenario.economics
    yield _stated(scenario, "growth", plan.growth_per_month, "a month", "economics.growth_per_month")
    if plan.growth_per_month:
        mean = worth.investment.requests_per_month
        yield Assumption("mean volume", mean, "requests a month", "default", None, "over the life, with growth")
    yield _stated(scenario, "spread of the volume", plan.volume_spread, "of its logarithm", "economics.volume_spread")
    yield _stated(scenario, "spread of the life", plan.life_spread, "of its mean", "economics.life_spread")
    yield _stated(scenario, "spread of the saving", plan.saving_spread, "of its logarithm", "economics.saving_spread")
