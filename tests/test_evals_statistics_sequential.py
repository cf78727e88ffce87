from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from evals.statistics.binary import BinaryTest
from evals.statistics.graded import BettingTest
from evals.statistics.sequential import make_test
from evals.statistics.types import SequentialTest, Status


@pytest.mark.parametrize(
    ("binary", "groups", "kind"),
    [
        (True, None, BinaryTest),
        (True, [None] * 100, BinaryTest),
        (True, [str(i) for i in range(100)], BinaryTest),
        (True, [str(i // 2) for i in range(100)], BettingTest),
        (True, [None] * 98 + ["pair", "pair"], BettingTest),
        (False, None, BettingTest),
    ],
)
def test_the_test_suits_the_data(binary: bool, groups: list[str | None] | None, kind: type) -> None:
    assert isinstance(make_test(100, 0.85, 0.03, 0.05, binary=binary, groups=groups), kind)


TESTS = {
    "exact": make_test(200, 0.7, 0.05, 0.05, binary=True),
    "betting": make_test(200, 0.7, 0.05, 0.05, binary=False),
    "clusters": make_test(200, 0.7, 0.05, 0.05, binary=True, groups=[str(i // 4) for i in range(200)]),
}


@pytest.mark.parametrize("test", TESTS.values(), ids=TESTS.keys())
def test_every_test_keeps_the_protocol(test: SequentialTest) -> None:
    assert list(test.looks) == sorted(set(test.looks))
    assert test.looks[-1] == 200
    assert test.attainable
    assert test.decide(np.ones(test.looks[-1])) is Status.CERTIFIED
    assert test.decide(np.zeros(test.looks[0])) is Status.ELIMINATED
    assert test.decide(np.full(200, np.nan)) is Status.UNRESOLVED
    for n in (test.looks[0], 200):
        scores = np.tile([1.0, 1.0, 1.0, 0.0], n)[:n]
        for status in (test.decide(scores), Status.CONTINUE):
            interval = test.interval(scores, status)
            assert 0.0 <= interval.low <= interval.value <= interval.high <= 1.0
            assert test.lower_bound(scores, status) <= interval.value + 0.05
    with pytest.raises(ValueError, match="looks at"):
        test.decide(np.ones(199))


def test_the_decision_is_reached_without_importing_scipy_stats() -> None:
    code = "import sys, advisor.ladder, evals.statistics.power; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
