"""Does it pay: the worked example of decision.md 8.3, closed forms against simulation, and limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advisor.tuning.investment import (
    Investment,
    break_even_requests,
    drivers,
    expected_months,
    expected_usd,
    pilot_value,
    present_value,
)

EXAMPLE = Investment(
    fixed_usd=1500,
    saving_usd_per_request=0.0045,
    requests_per_month=60_000,
    months=9,
    success=0.6,
    hosting_usd_per_month=40,
)


def test_the_worked_example_breaks_even_where_it_should() -> None:
    assert break_even_requests(EXAMPLE) == pytest.approx(45_926, abs=1)


def test_the_worked_example_pays_on_average_and_loses_in_two_of_three_cases() -> None:
    found = present_value(EXAMPLE, draws=400_000)
    assert found.mean == pytest.approx(290, abs=12)
    assert found.p_positive == pytest.approx(0.34, abs=0.003)
    assert found.p5 == -1500
    assert found.p5 <= found.p50 <= found.p95


def test_a_pilot_that_settles_success_is_worth_what_it_saves() -> None:
    assert pilot_value(EXAMPLE, 150) == pytest.approx(449, abs=2)
    assert pilot_value(replace(EXAMPLE, success=1.0), 150) == -150


def test_the_simulated_mean_is_the_closed_form() -> None:
    uncertain = replace(EXAMPLE, saving_spread=0.3)
    assert present_value(uncertain, draws=400_000).mean == pytest.approx(expected_usd(uncertain), abs=15)


def test_the_same_seed_gives_the_same_value() -> None:
    assert present_value(EXAMPLE, seed=3) == present_value(EXAMPLE, seed=3)
    assert present_value(EXAMPLE, seed=3) != present_value(EXAMPLE, seed=4)


def test_what_saves_nothing_never_breaks_even() -> None:
    assert break_even_requests(replace(EXAMPLE, saving_usd_per_request=0.0)) is None
    assert break_even_requests(replace(EXAMPLE, saving_usd_per_request=-0.001)) is None
    assert present_value(replace(EXAMPLE, saving_usd_per_request=-0.001)).p_positive == 0


def test_drivers_come_with_the_largest_first_and_without_those_that_move_nothing() -> None:
    found = drivers(replace(EXAMPLE, hosting_usd_per_month=0.0))
    assert [driver.swing_usd for driver in found] == sorted((driver.swing_usd for driver in found), reverse=True)
    assert "hosting_usd_per_month" not in {driver.name for driver in found}
    volume = next(driver for driver in found if driver.name == "requests_per_month")
    assert volume.usd_at_low < volume.usd_at_high
    assert (volume.low, volume.high) == (30_000, 120_000)


@pytest.mark.parametrize("wrong", [{"success": 1.2}, {"months": 0}, {"requests_per_month": -1}, {"months_limit": 0.0}])
def test_impossible_assumptions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"probability|positive"):
        replace(EXAMPLE, **wrong)


def test_a_life_that_a_shutdown_cuts_off_has_the_mean_of_the_closed_form() -> None:
    cut = replace(EXAMPLE, months_limit=6.0)
    assert cut.life == 6
    assert expected_months(cut) < 6
    assert present_value(cut, draws=400_000).mean == pytest.approx(expected_usd(cut), abs=12)
    assert expected_months(replace(EXAMPLE, months_limit=1000.0)) == pytest.approx(9)
    assert break_even_requests(cut) == pytest.approx((1500 / 6 + 40) / 0.0045)
