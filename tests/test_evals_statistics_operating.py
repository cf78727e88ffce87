from __future__ import annotations

import numpy as np
import pytest

from evals.statistics.binary import BinaryTest
from evals.statistics.boundaries import design
from evals.statistics.operating import operating
from evals.statistics.types import Status


def test_the_power_of_the_specification_is_reproduced() -> None:
    assert operating(design(500, 0.85, 0.03, 0.05 / 8), 0.90).certified == pytest.approx(0.761, abs=0.0005)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.85, 0.88, 1.0])
@pytest.mark.parametrize("n", [15, 60, 500, 5000])
def test_the_four_ends_add_up_to_one(n: int, p: float) -> None:
    ends = operating(design(n, 0.85, 0.03, 0.00625), p)
    assert ends.certified + ends.eliminated + ends.hopeless + ends.unresolved == pytest.approx(1.0, abs=1e-9)
    assert min(20, n) - 1e-9 <= ends.mean_samples <= n + 1e-9


def test_the_characteristics_are_those_of_the_running_test() -> None:
    plan, rng = design(500, 0.85, 0.03, 0.00625), np.random.default_rng(7)
    test, ends, lengths = BinaryTest(plan), [], []
    for _ in range(2000):
        scores = (rng.random(500) < 0.88).astype(np.float64)
        for look in plan.looks:
            status = test.decide(scores[:look])
            if status is not Status.CONTINUE:
                break
        ends.append(status)
        lengths.append(look)
    expected = operating(plan, 0.88)
    for status, probability in [
        (Status.CERTIFIED, expected.certified),
        (Status.ELIMINATED, expected.eliminated),
        (Status.HOPELESS, expected.hopeless),
        (Status.UNRESOLVED, expected.unresolved),
    ]:
        error = np.sqrt(probability * (1 - probability) / 2000)
        assert abs(ends.count(status) / 2000 - probability) < 4 * error
    assert np.mean(lengths) == pytest.approx(expected.mean_samples, rel=0.04)
