"""What a fine-tune costs once, costs a month and saves on each request, before its volume is looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from advisor.economics.bills import Bill, Machine, bill
from advisor.economics.lifespan import Life, life
from advisor.scenario.model import Scenario
from advisor.tuning.investment import break_even_volume


@dataclass(frozen=True, slots=True)
class Priced:
    """A candidate with what its requests cost."""

    id: str
    model: str
    usd_per_1k_requests: float | None
    tuned: bool = False


@dataclass(frozen=True, slots=True)
class Spending:
    """What a fine-tune costs once. Dollars."""

    labels_usd: float
    training_usd: float
    """The pilot included."""
    evaluation_usd: float
    """The part of it that counts."""

    @property
    def usd(self) -> float:
        """All of it."""
        return self.labels_usd + self.training_usd + self.evaluation_usd


@dataclass(frozen=True, slots=True)
class Ends:
    """What bounds a fine-tune's worth beside prices."""

    day: date
    """On which the run began."""
    shutdown: date | None
    """Of the base model; None when none is announced."""
    success: float
    """Probability that it comes off, as measured or forecast."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A fine-tune against what would be used without it."""

    candidate: str
    against: str
    spending: Spending
    saving_usd_per_request: float
    hosting_usd_per_month: float
    """Of the tuned candidate, minus that of the other one."""
    life: Life
    success: float

    @property
    def break_even(self) -> float | None:
        """Requests a month at which it breaks even given that it comes off; None when it never does."""
        if self.life.months == 0:
            return None
        return break_even_volume(
            self.spending.usd, self.life.months, self.saving_usd_per_request, self.hosting_usd_per_month
        )


def serving_bill(scenario: Scenario, one: Priced, machine: Machine) -> Bill:
    """What serving a candidate costs at the scenario's volume."""
    under = machine if one.model.startswith("local/") else None
    fee = scenario.economics.tuned_usd_per_month if one.tuned and under is None else 0.0
    return bill(one.usd_per_1k_requests, scenario.traffic.requests_per_month, under, fee)


def spending(scenario: Scenario, training_usd: float | None, evaluation_usd: float | None) -> Spending | None:
    """What a fine-tune costs once; None when a price is not known."""
    plan = scenario.economics
    if training_usd is None or (evaluation_usd is None and plan.evaluation_share > 0):
        return None
    labels = (len(scenario.task.train) + len(scenario.task.dev)) * plan.usd_per_label
    return Spending(labels, training_usd, plan.evaluation_share * (evaluation_usd or 0.0))


def terms(
    scenario: Scenario, pair: tuple[Priced, Priced], once: Spending | None, machine: Machine, ends: Ends
) -> Terms | None:
    """The terms of a tuned candidate against another one; None when a price is not known.

    Args:
        scenario: Traffic and assumptions.
        pair: The tuned candidate and the one that would be used without it.
        once: What the fine-tune costs once.
        machine: What local models run on.
        ends: When its base is shut down, seen from which day, and how likely it comes off.
    """
    tuned, other = (serving_bill(scenario, one, machine) for one in pair)
    figures = (tuned.usd_per_request, other.usd_per_request, tuned.fixed_usd_per_month, other.fixed_usd_per_month)
    if once is None or None in figures:
        return None
    each, each_other, fixed, fixed_other = (figure or 0.0 for figure in figures)
    return Terms(
        candidate=pair[0].id,
        against=pair[1].id,
        spending=once,
        saving_usd_per_request=each_other - each,
        hosting_usd_per_month=fixed - fixed_other,
        life=life(scenario, ends.shutdown, ends.day),
        success=ends.success,
    )
