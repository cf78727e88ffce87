"""Would a fine-tune pay: its worth at the scenario's volume, before the training by its pilot, after it as measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from advisor.advice.phrases import dollars
from advisor.economics.bills import Machine, mean_volume
from advisor.scenario.model import Scenario
from advisor.tuning.investment import (
    Driver,
    Investment,
    PresentValue,
    break_even_requests,
    drivers,
    pilot_value,
    present_value,
)
from advisor.tuning.pilot import Pilot
from advisor.tuning.terms import Ends, Priced, Terms, spending, terms
from backends.types import add_known
from backends.wording import counted


@dataclass(frozen=True, slots=True)
class Worth:
    """An investment with what follows from it."""

    terms: Terms
    investment: Investment
    value: PresentValue
    break_even: float | None
    """Requests a month, given that the fine-tune comes off; None when it saves nothing."""
    drivers: tuple[Driver, ...]
    pilot_usd: float | None
    """The most that settling beforehand whether it comes off is worth; None when that is certain."""

    @property
    def candidate(self) -> str:
        """The fine-tune."""
        return self.terms.candidate

    @property
    def against(self) -> str:
        """The candidate that would be used without it."""
        return self.terms.against

    def as_json(self) -> dict[str, Any]:
        """What the report shows, every assumption beside the result."""
        return asdict(self.value) | {
            "candidate": self.candidate,
            "against": self.against,
            "assumptions": asdict(self.investment),
            "spending": asdict(self.terms.spending),
            "drivers": [asdict(driver) for driver in self.drivers],
            "pilot_worth_usd": self.pilot_usd,
        }


def worth(scenario: Scenario, found: Terms | None) -> Worth | None:
    """What a fine-tune is worth on its terms; None when they or the traffic are unknown, or its base is gone."""
    volume = scenario.traffic.requests_per_month
    if found is None or not volume or found.life.months == 0:
        return None
    plan = Investment(
        fixed_usd=found.spending.usd,
        saving_usd_per_request=found.saving_usd_per_request,
        requests_per_month=mean_volume(volume, scenario.economics.growth_per_month, found.life.months),
        months=found.life.planned,
        success=found.success,
        hosting_usd_per_month=found.hosting_usd_per_month,
        requests_spread=scenario.economics.volume_spread,
        months_shape=scenario.economics.life_spread**-2,
        saving_spread=scenario.economics.saving_spread,
        months_limit=found.life.limit,
    )
    return Worth(
        found,
        plan,
        present_value(plan, scenario.seed),
        break_even_requests(plan),
        drivers(plan),
        pilot_value(plan, 0.0) if plan.success < 1 else None,
    )


def terms_ahead(
    scenario: Scenario,
    pair: tuple[Priced, Priced],
    piloted: Pilot,
    machine: Machine,
    ends: tuple[date, date | None],
    taught_usd: float | None = 0.0,
) -> Terms | None:
    """The terms before the training: prices and success as the pilot has them.

    A request costs what it did on the pilot's model; the whole training costs as much more than the largest pilot as it
    has more samples, and the test takes every test sample. `ends` are the day of the run and the base's shutdown,
    `taught_usd` what a teacher's answers took before.
    """
    largest = piloted.runs[-1]
    trained, spent = largest.cost.usage.cost_usd, add_known(piloted.cost.usage.cost_usd, taught_usd)
    training = None if trained is None or spent is None else spent + trained / largest.fraction
    price = pair[0].usd_per_1k_requests
    evaluation = None if price is None else len(scenario.task.test) * price / 1000
    stated = scenario.economics.success
    success = piloted.forecast.p_reach if stated is None else stated
    once = spending(scenario, training, evaluation)
    return terms(scenario, pair, once, machine, Ends(*ends, success))


def told(found: Worth) -> str:
    """The finding in a sentence."""
    plan, saving = found.investment, found.investment.saving_usd_per_request * 1000
    saves = f"saves {dollars(saving)}" if saving >= 0 else f"costs {dollars(-saving)} more"
    text = (
        f"Against {found.against} it {saves} per 1,000 requests for {dollars(plan.fixed_usd)} "
        f"once{_fee(plan)}: net present value {dollars(found.value.mean)} on average over "
        f"{counted(plan.life, 'month', '.3g')} (5 to 95 %: {dollars(found.value.p5)} to {dollars(found.value.p95)}), "
        f"positive with probability {found.value.p_positive:.2f}"
    )
    if found.break_even is not None:
        text += f"; it breaks even at {counted(found.break_even, 'request', ',.0f')} a month"
    if found.pilot_usd is not None and found.pilot_usd > 0:
        text += f"; settling beforehand whether it comes off is worth up to {dollars(found.pilot_usd)}"
    return text + "."


def _fee(plan: Investment) -> str:
    if plan.hosting_usd_per_month == 0:
        return ""
    more = "more" if plan.hosting_usd_per_month > 0 else "less"
    return f" and {dollars(abs(plan.hosting_usd_per_month))} {more} a month for hosting"
