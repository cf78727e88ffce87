from __future__ import annotations

import numpy as np
import pytest

from evals.statistics.limits import DollarLimit, seconds_limit
from evals.statistics.types import Status

LOOKS = (20, 50, 100, 500)


def test_fast_requests_prove_a_p95_only_when_there_are_enough() -> None:
    limit = seconds_limit(2.0, 500, 0.00625, beta=0.05, gamma=0.005)
    assert limit.provable
    assert limit.decide(np.full(60, 0.5)) is Status.CONTINUE
    assert limit.decide(np.full(240, 0.5)) is Status.CERTIFIED
    assert limit.decide(np.full(20, 3.0)) is Status.ELIMINATED


def test_where_no_p95_can_be_proved_the_measured_share_decides() -> None:
    limit = seconds_limit(2.0, 60, 0.00625, beta=0.05, gamma=0.005)
    assert not limit.provable
    assert limit.decide(np.full(20, 0.5)) is Status.CERTIFIED
    slow_tenth = np.array([0.5] * 18 + [3.0] * 2)
    assert limit.decide(slow_tenth) is Status.CONTINUE
    assert limit.decide(np.array([0.5] * 56 + [3.0] * 4)) is Status.UNRESOLVED
    assert limit.decide(np.full(60, 3.0)) is Status.ELIMINATED


@pytest.mark.parametrize(
    ("cost", "n", "status"),
    [
        (0.001, 20, Status.CERTIFIED),
        (0.003, 20, Status.ELIMINATED),
        (0.00199, 20, Status.CONTINUE),
        (0.00199, 500, Status.UNRESOLVED),
    ],
)
def test_dollars_are_decided_once_their_spread_allows(cost: float, n: int, status: Status) -> None:
    costs = cost * np.tile([0.8, 1.2], n)[:n]
    assert DollarLimit(2.0, LOOKS, 0.00625, 0.05).decide(costs) is status


def test_constant_costs_are_decided_at_once() -> None:
    limit = DollarLimit(2.0, LOOKS, 0.00625, 0.05)
    assert limit.decide(np.full(20, 0.002)) is Status.CERTIFIED
    assert limit.decide(np.full(20, 0.0021)) is Status.ELIMINATED


def test_a_single_request_decides_nothing_about_dollars() -> None:
    assert DollarLimit(2.0, (1, 500), 0.00625, 0.05).decide(np.array([0.001])) is Status.CONTINUE


@pytest.mark.parametrize("shape", [1.0, 4.0, 25.0])
def test_skewed_dollars_at_the_limit_are_certified_about_as_rarely_as_promised(shape: float) -> None:
    rng, looks, certified = np.random.default_rng(8), (20, 50, 100, 200), 0
    limit = DollarLimit(2.0, looks, 0.05, 0.05)
    for _ in range(1000):
        costs = rng.gamma(shape, 0.002 / shape, 200)
        certified += any(limit.decide(costs[:n]) is Status.CERTIFIED for n in looks)
    assert certified / 1000 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)
