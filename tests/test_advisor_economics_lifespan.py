"""How long a fine-tune lasts: the horizon, answers that change, a shutdown; days count from the run."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from advisor.economics.lifespan import day_of, days_until, life
from advisor.scenario.load import load_scenario
from tests import toys

DAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("changes", "shutdown", "months"),
    [
        ({}, None, 12),
        ({"traffic": {"months": 3}}, None, 3),
        ({"knowledge": {"volatility": "monthly"}}, None, 1),
        ({"knowledge": {"volatility": "weekly"}}, None, 7 / 30.4375),
        ({"knowledge": {"volatility": "realtime"}}, None, 1 / 30.4375),
        ({"knowledge": {"volatility": "weekly"}, "economics": {"retraining_months": 6}}, None, 6),
        ({"traffic": {"months": 3}, "economics": {"retraining_months": 6}}, None, 3),
        ({}, date(2027, 1, 14), 52 / 30.4375),
        ({"knowledge": {"volatility": "monthly"}}, date(2027, 1, 14), 1),
        ({}, date(2026, 10, 23), 0),
    ],
)
def test_the_shortest_of_horizon_retraining_and_shutdown_counts(
    tmp_path: Path, changes: dict[str, object], shutdown: date | None, months: float
) -> None:
    scenario = load_scenario(toys.scenario(tmp_path, "scripted/echo", **{"traffic": {}, **changes}))
    assert life(scenario, shutdown, DAY).months == pytest.approx(months)


def test_days_are_counted_from_the_day_of_the_run() -> None:
    assert day_of("2026-11-23T23:59:59+00:00") == DAY
    assert days_until(date(2027, 1, 14), DAY) == 52
    assert days_until(date(2026, 10, 23), DAY) == -31
