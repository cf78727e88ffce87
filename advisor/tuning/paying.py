"""Would a fine-tune pay: what it costs and saves, from the pilot before the training and from trials after it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from advisor.scenario.model import Scenario
from advisor.tuning.investment import Driver, Investment, PresentValue, break_even_requests, drivers, present_value
from advisor.tuning.pilot import Pilot


@dataclass(frozen=True, slots=True)
class Worth:
    """An investment with what follows from it."""

    candidate: str
    against: str
    """The candidate that would be used without the fine-tune."""
    investment: Investment
    value: PresentValue
    break_even: float | None
    """Requests a month, given that the fine-tune comes off; None when it saves nothing."""
    drivers: tuple[Driver, ...]

    def as_json(self) -> dict[str, Any]:
        """What the report shows, every assumption beside the result."""
        return asdict(self.value) | {
            "candidate": self.candidate,
            "against": self.against,
            "assumptions": asdict(self.investment),
            "drivers": [asdict(driver) for driver in self.drivers],
        }


def worth(
    scenario: Scenario,
    candidate: tuple[str, float | None],
    against: tuple[str, float | None],
    fixed_usd: float | None,
    success: float,
) -> Worth | None:
    """What a fine-tune is worth against a candidate that meets the target without one.

    `candidate` and `against` are (id, dollars per 1,000 requests). None when a price or the traffic is unknown.
    """
    volume = scenario.traffic.requests_per_month
    if candidate[1] is None or against[1] is None or fixed_usd is None or not volume:
        return None
    plan = Investment(
        fixed_usd=fixed_usd,
        saving_usd_per_request=(against[1] - candidate[1]) / 1000,
        requests_per_month=volume,
        months=scenario.traffic.months,
        success=success,
    )
    return Worth(
        candidate[0],
        against[0],
        plan,
        present_value(plan, scenario.seed),
        break_even_requests(plan),
        drivers(plan),
    )


def worth_ahead(scenario: Scenario, candidate: str, against: tuple[str, float | None], piloted: Pilot) -> Worth | None:
    """The same before the training: prices and success as the pilot has them.

    A request costs what it did on the pilot's model; the whole training costs as much more than the largest pilot as it
    has more samples.
    """
    largest = piloted.runs[-1]
    trained, spent = largest.cost.usage.cost_usd, piloted.cost.usage.cost_usd
    fixed = None if trained is None or spent is None else spent + trained / largest.fraction
    return worth(scenario, (candidate, largest.usd_per_1k_requests), against, fixed, piloted.forecast.p_reach)


def told(found: Worth) -> str:
    """The finding in a sentence."""
    plan, saving = found.investment, found.investment.saving_usd_per_request * 1000
    text = (
        f"Against {found.against} it saves ${saving:.3g} per 1,000 requests for ${plan.fixed_usd:.3g} once: net "
        f"present value ${found.value.mean:,.2f} on average over {plan.months:g} months (5 to 95 %: "
        f"${found.value.p5:,.2f} to ${found.value.p95:,.2f}), positive with probability {found.value.p_positive:.2f}"
    )
    if found.break_even is not None:
        text += f"; it breaks even at {found.break_even:,.0f} requests a month"
    return text + "."
