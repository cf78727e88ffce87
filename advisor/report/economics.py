"""The economics of a report: dollars a month, break-even, worth, and the assumptions under all of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from advisor.economics.assumptions import assumptions
from advisor.economics.bills import errors_usd
from advisor.economics.money import Money
from advisor.outcome import Outcome, Row
from advisor.scenario.model import Scenario


def economics(scenario: Scenario, outcome: Outcome, money: Money) -> dict[str, Any]:
    """As JSON. Dollars a month are of serving; what was spent once and what errors cost stand beside them."""
    traffic, terms = scenario.traffic, money.terms
    volume = traffic.requests_per_month
    return {
        "requests_per_month": volume,
        "months": traffic.months,
        "monthly_usd": {name: one.monthly(volume) for name, one in money.bills.items()},
        "bills": {row.id: _bill(row, scenario, money) for row in outcome.rows},
        "monthly_errors_usd": {
            row.id: errors_usd(row.test.score, traffic.usd_per_error, volume) for row in outcome.rows
        },
        "break_even_requests_per_month": None if terms is None else terms.break_even,
        "break_even_against": None if terms is None else terms.against,
        "net_present_value": None if money.worth is None else money.worth.as_json(),
        "assumptions": [asdict(one) for one in assumptions(scenario, outcome, money)],
    }


def _bill(row: Row, scenario: Scenario, money: Money) -> dict[str, Any]:
    """Per request, per month whatever the volume, and once; `months` is what the last is spread over."""
    bill, terms = money.bills[row.id], money.terms
    known = terms is not None and terms.candidate == row.id
    return {
        "usd_per_request": bill.usd_per_request,
        "fixed_usd_per_month": bill.fixed_usd_per_month,
        "once_usd": terms.spending.usd if known and terms is not None else row.fit.cost_usd,
        "months": terms.life.months if known and terms is not None else scenario.traffic.months,
    }
