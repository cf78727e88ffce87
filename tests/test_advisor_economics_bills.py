"""Dollars a month: endpoints by the request, machines by the hour or the month, wrong answers, growth."""

from __future__ import annotations

import math

import pytest

from advisor.economics.bills import HOURS_PER_MONTH, Bill, Machine, bill, errors_usd, mean_volume


def test_an_endpoint_is_paid_by_the_request_and_its_fee_by_the_month() -> None:
    assert bill(2.0, 10_000) == Bill(0.002, 0.0)
    assert bill(2.0, 10_000).monthly(10_000) == pytest.approx(20)
    assert bill(2.0, 10_000, fee_usd_per_month=40).monthly(10_000) == pytest.approx(60)


def test_a_rented_machine_costs_more_the_less_of_its_time_is_used() -> None:
    assert bill(2.0, 10_000, Machine(1.0)).monthly(10_000) == pytest.approx(20)
    assert bill(2.0, 10_000, Machine(1.0, utilisation=0.25)).monthly(10_000) == pytest.approx(80)


@pytest.mark.parametrize(
    ("volume", "machines"),
    [(None, 1), (0.0, 1), (1.0, 1), (365_000, 1), (365_001, 2), (1_000_000, 3)],
)
def test_a_machine_that_is_always_on_is_paid_whole(volume: float | None, machines: int) -> None:
    # A request takes $0.001 of a machine at $1 an hour; at half its time a month of it serves 365,000.
    found = bill(1.0, volume, Machine(1.0, utilisation=0.5, always_on=True))
    assert found == Bill(0.0, machines * HOURS_PER_MONTH)


def test_a_machine_that_costs_nothing_costs_nothing() -> None:
    assert bill(0.0, 10_000, Machine(0.0, always_on=True)).monthly(10_000) == 0


def test_what_is_not_known_stays_unknown() -> None:
    assert bill(None, 10_000).monthly(10_000) is None
    assert bill(2.0, None).monthly(None) is None
    assert bill(None, 10_000, Machine(1.0, always_on=True)).monthly(10_000) is None
    assert bill(1.0, 10_000, Machine(None, always_on=True)).monthly(10_000) is None
    assert errors_usd(None, 0.05, 1000) is errors_usd(0.9, None, 1000) is errors_usd(0.9, 0.05, None) is None


def test_wrong_answers_cost_by_what_the_score_lacks() -> None:
    assert errors_usd(0.9, 0.05, 10_000) == pytest.approx(50)
    assert errors_usd(1.0, 0.05, 10_000) == 0


def test_growth_is_averaged_over_the_life() -> None:
    assert mean_volume(1000, 0.0, 12) == 1000
    months = [1000 * 1.1 ** (month / 100) for month in range(1200)]
    assert mean_volume(1000, 0.1, 12) == pytest.approx(sum(months) / len(months), rel=1e-3)
    assert mean_volume(1000, -0.1, 12) < 1000
    assert math.isclose(mean_volume(1000, 0.1, 1e-9), 1000)
