"""From a scenario and prices to break-even and worth: the worked example of decision.md 8.3 and its variations."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from advisor.economics.bills import Machine
from advisor.scenario.load import load_scenario
from advisor.tuning.investment import pilot_value
from advisor.tuning.paying import Worth, told, worth
from advisor.tuning.terms import Ends, Priced, Spending, Terms, spending, terms
from tests import toys

DAY = date(2026, 11, 23)
TUNED = Priced("fine_tune@openai/small", "openai/small", 1.5, tuned=True)
PROMPTED = Priced("few_shot@openai/large", "openai/large", 6.0)
LOCAL = Priced("fine_tune@local/small", "local/small", 1.5, tuned=True)


def found(
    folder: Path,
    *,
    tuned: Priced = TUNED,
    other: Priced = PROMPTED,
    machine: Machine | None = None,
    shutdown: date | None = None,
    success: float = 0.6,
    **changes: Any,
) -> Terms | None:
    """The example: $1,500 once, $6.00 or $1.50 per 1,000 requests, $40 a month, nine months."""
    scenario = load_scenario(example(folder, **changes))
    once = spending(scenario, 1400.0, 100.0)
    return terms(scenario, (tuned, other), once, machine or Machine(1.0), Ends(DAY, shutdown, success))


def example(folder: Path, **changes: Any) -> Path:
    given = {
        "traffic": {"requests_per_month": 60_000, "months": 9},
        "economics": {"tuned_usd_per_month": 40},
    }
    return toys.scenario(folder, "scripted/echo", **{**given, **changes})


def worth_of(folder: Path, **changes: Any) -> Worth:
    counted = found(folder, **changes)
    value = worth(load_scenario(folder / "scenario.yaml"), counted)
    assert value is not None
    return value


def test_the_worked_example_comes_out_of_a_scenario(tmp_path: Path) -> None:
    value = worth_of(tmp_path)
    assert value.break_even == pytest.approx(45_926, abs=1)
    assert value.value.p_positive == pytest.approx(0.34, abs=0.01)
    assert value.value.mean == pytest.approx(290, abs=40)
    assert pilot_value(value.investment, 150) == pytest.approx(449, abs=2)
    assert value.pilot_usd == pytest.approx(599, abs=2)
    assert "breaks even at 45,926 requests a month" in told(value)
    assert "worth up to $600.00" in told(value)


def test_labels_evaluation_and_fee_are_counted_as_the_scenario_says(tmp_path: Path) -> None:
    counted = found(tmp_path, economics={"usd_per_label": 2, "evaluation_share": 0.25})
    assert counted is not None
    assert counted.spending == Spending(labels_usd=75 * 2, training_usd=1400, evaluation_usd=25)
    assert counted.hosting_usd_per_month == 0


def test_a_shutdown_cuts_the_life_and_raises_the_break_even(tmp_path: Path) -> None:
    whole, cut = found(tmp_path), found(tmp_path, shutdown=date(2027, 1, 14))
    assert whole is not None
    assert cut is not None
    assert cut.life.months == pytest.approx(52 / 30.4375)
    assert cut.break_even == pytest.approx((1500 / cut.life.months + 40) / 0.0045)
    value = worth(load_scenario(tmp_path / "scenario.yaml"), cut)
    assert value is not None
    assert value.value.mean < worth_of(tmp_path).value.mean
    assert value.value.p95 < 0.0045 * cut.life.months * 60_000 * 4


def test_a_base_that_is_gone_is_worth_nothing_more(tmp_path: Path) -> None:
    gone = found(tmp_path, shutdown=date(2026, 10, 23))
    assert gone is not None
    assert gone.break_even is None
    assert worth(load_scenario(tmp_path / "scenario.yaml"), gone) is None


def test_a_machine_that_is_always_on_is_a_fee_and_no_price_of_a_request(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"hosting": {"usd_per_hour": 0.1, "always_on": True}, "economics": {}}
    hosted = found(tmp_path, tuned=LOCAL, machine=Machine(0.1, always_on=True), **changes)
    assert hosted is not None
    assert hosted.saving_usd_per_request == pytest.approx(0.006)
    # 60,000 requests of $0.0015 keep $90 of machine time busy: two machines at $73 a month.
    assert hosted.hosting_usd_per_month == pytest.approx(146)
    assert hosted.break_even == pytest.approx((1500 / 9 + 146) / 0.006)


def test_two_local_candidates_on_one_machine_save_machines_and_nothing_else(tmp_path: Path) -> None:
    other = replace(PROMPTED, model="local/small")
    hosted = found(tmp_path, tuned=LOCAL, other=other, machine=Machine(0.1, always_on=True), economics={})
    assert hosted is not None
    assert hosted.saving_usd_per_request == 0
    assert hosted.hosting_usd_per_month == pytest.approx((2 - 5) * 73)
    assert hosted.break_even is None


def test_growth_and_spreads_of_the_scenario_reach_the_simulation(tmp_path: Path) -> None:
    plans = {"growth_per_month": 0.1, "volume_spread": 0.0, "life_spread": 0.25, "saving_spread": 0.3}
    value = worth_of(tmp_path, economics=plans, success=1.0)
    plan = value.investment
    assert plan.requests_per_month > 60_000
    assert (plan.requests_spread, plan.months_shape, plan.saving_spread) == (0.0, 16.0, 0.3)
    assert value.pilot_usd is None


def test_an_unknown_price_gives_no_terms(tmp_path: Path) -> None:
    scenario = load_scenario(example(tmp_path))
    assert found(tmp_path, tuned=replace(TUNED, usd_per_1k_requests=None)) is None
    assert found(tmp_path, other=replace(PROMPTED, usd_per_1k_requests=None)) is None
    assert spending(scenario, None, 1.0) is spending(scenario, 1.0, None) is None
    assert worth(scenario, None) is None


def test_a_deployment_fee_is_not_paid_for_ones_own_machine(tmp_path: Path) -> None:
    local, remote = found(tmp_path, tuned=LOCAL), found(tmp_path)
    assert local is not None
    assert remote is not None
    assert (local.hosting_usd_per_month, remote.hosting_usd_per_month) == (0, 40)
