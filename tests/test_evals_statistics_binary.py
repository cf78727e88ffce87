from __future__ import annotations

import time

import numpy as np
import pytest

from evals.statistics.binary import BinaryTest, successes
from evals.statistics.boundaries import design
from evals.statistics.types import Status

TEST = BinaryTest(design(500, 0.85, 0.03, 0.05 / 8))


def scores(right: int, n: int, failed: int = 0) -> np.ndarray:
    return np.concatenate([np.ones(right), np.zeros(n - right - failed), np.full(failed, np.nan)])


@pytest.mark.parametrize(
    ("right", "n", "status"),
    [
        (60, 60, Status.CERTIFIED),
        (59, 60, Status.CONTINUE),
        (48, 60, Status.CONTINUE),
        (47, 60, Status.HOPELESS),
        (45, 60, Status.ELIMINATED),
        (446, 500, Status.CERTIFIED),
        (445, 500, Status.UNRESOLVED),
        (423, 500, Status.UNRESOLVED),
        (422, 500, Status.ELIMINATED),
    ],
)
def test_the_status_follows_the_boundaries(right: int, n: int, status: Status) -> None:
    assert TEST.decide(scores(right, n)) is status


def test_failed_trials_count_against_certification_and_against_giving_up() -> None:
    assert TEST.decide(scores(59, 60, failed=1)) is Status.CONTINUE
    assert TEST.decide(scores(47, 60, failed=1)) is Status.CONTINUE
    assert successes(np.array([1.0, np.nan, 0.0, np.nan])) == (1, 3)


def test_a_count_between_looks_is_refused() -> None:
    with pytest.raises(ValueError, match="not at 61"):
        TEST.decide(scores(60, 61))


def test_an_arm_that_did_not_stop_by_itself_gets_a_confidence_sequence() -> None:
    interval = TEST.interval(scores(87, 100), Status.CONTINUE)
    assert interval.method.startswith("confidence sequence")
    assert interval.low < 0.87 < interval.high
    assert TEST.lower_bound(scores(87, 100), Status.CONTINUE) == interval.low


def test_a_certificate_names_a_bound_at_or_above_the_target() -> None:
    assert TEST.lower_bound(scores(446, 500), Status.CERTIFIED) >= 0.85
    assert TEST.interval(scores(446, 500), Status.CERTIFIED).method == "stagewise exact, 99.38 %"


def test_deciding_takes_less_than_a_millisecond() -> None:
    test = BinaryTest(design(2000, 0.85, 0.03, 0.05 / 8))
    answers = scores(1700, 2000)
    test.decide(answers)
    start = time.perf_counter()
    for _ in range(50):
        test.decide(answers)
    assert (time.perf_counter() - start) / 50 < 1e-3
