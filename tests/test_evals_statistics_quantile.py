from __future__ import annotations

from math import inf

import numpy as np
import pytest

from evals.statistics.quantile import seconds_quantile


@pytest.mark.parametrize(("q", "n"), [(0.5, 30), (0.95, 200), (0.9, 60)])
def test_intervals_cover_the_quantile_whatever_the_distribution(q: float, n: int) -> None:
    rng = np.random.default_rng(1)
    truth = -np.log(1.0 - q)
    covered = np.mean([seconds_quantile(rng.exponential(1.0, n), q).covers(truth) for _ in range(800)])
    assert covered >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 800)


def test_too_few_latencies_do_not_bound_a_high_quantile() -> None:
    seconds = np.arange(1.0, 72.0)
    assert seconds_quantile(seconds, 0.95).high == inf
    assert seconds_quantile(np.arange(1.0, 73.0), 0.95).high == 72.0
    assert seconds_quantile(seconds[:3], 0.05).low == 0.0


def test_the_value_is_an_order_statistic() -> None:
    assert seconds_quantile(np.arange(1.0, 101.0), 0.95).value == 95.0
    assert seconds_quantile(np.array([3.0]), 0.95).value == 3.0
