from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from evals.statistics.boundaries import design
from evals.statistics.value import Stakes, expected_samples, expected_shortfall, feasibility


def test_the_expected_shortfall_is_the_integral_it_stands_for() -> None:
    grid = (np.arange(200_000) + 0.5) / 200_000
    for mean, n in ((0.82, 100), (0.9, 60), (0.3, 20)):
        density = beta.pdf(grid, 1 + n * mean, 1 + n * (1 - mean))
        expected = np.mean(np.maximum(0.85 - grid, 0.0) * density)
        assert expected_shortfall(mean, n, 0.85) == pytest.approx(expected, abs=1e-6)


def test_feasibility_follows_the_dev_scores() -> None:
    assert feasibility(None, 0, 0.85) == pytest.approx(0.15)
    assert feasibility(0.5, 100, 0.85) < 1e-6
    assert feasibility(0.95, 100, 0.85) > 0.99


def test_a_test_is_expected_to_be_short_for_clear_cases() -> None:
    plan = design(500, 0.85, 0.03, 0.00625)
    assert expected_samples(plan, 0.3, 50) < 30
    assert expected_samples(plan, 0.87, 200) > 200
    assert 20 <= expected_samples(plan, None, 0) <= 500


@pytest.mark.parametrize(
    ("requests", "fallback", "pays"), [(1e6, 10.0, True), (2_000, 10.0, False), (1e6, 1.0, False), (1e6, 0.5, False)]
)
def test_a_test_pays_when_it_may_save_more_than_it_costs(requests: float, fallback: float, pays: bool) -> None:
    stakes = Stakes(usd_per_1k=1.0, fallback_usd_per_1k=fallback, requests=requests, feasible=0.01, samples=300)
    assert stakes.pays is pays
    assert stakes.test_usd == pytest.approx(0.3)
