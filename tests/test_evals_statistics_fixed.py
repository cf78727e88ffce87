"""The fixed-sample test: exact levels, and what failed trials and the indifference zone do to it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from evals.statistics.fixed import fixed_test


def scores(right: int, wrong: int, failed: int = 0) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * wrong + [np.nan] * failed)


@pytest.mark.parametrize(("n", "target", "alpha"), [(40, 0.8, 0.05), (300, 0.85, 0.0125), (500, 0.6, 0.00625)])
def test_certifying_at_the_target_is_no_likelier_than_alpha(n: int, target: float, alpha: float) -> None:
    certified = [
        s for s in range(n + 1) if fixed_test(scores(s, n - s), target, 0.05, alpha, 0.05, binary=True).certified
    ]
    assert certified
    assert binom.pmf(certified, n, target).sum() <= alpha + 1e-12
    smaller = min(certified) - 1
    assert binom.sf(smaller - 1, n, target) > alpha, "the test gives no power away"


@pytest.mark.parametrize(("n", "target", "margin"), [(40, 0.8, 0.1), (300, 0.85, 0.05)])
def test_eliminating_at_target_plus_margin_is_no_likelier_than_beta(n: int, target: float, margin: float) -> None:
    gone = [s for s in range(n + 1) if fixed_test(scores(s, n - s), target, margin, 0.01, 0.05, binary=True).eliminated]
    assert gone
    assert binom.pmf(gone, n, target + margin).sum() <= 0.05 + 1e-12


def test_a_candidate_that_looks_good_enough_is_not_eliminated() -> None:
    found = fixed_test(scores(194, 106), 0.6, 0.1, 0.0125, 0.05, binary=True)
    assert (found.certified, found.eliminated) == (False, False)
    assert fixed_test(scores(170, 130), 0.6, 0.1, 0.0125, 0.05, binary=True).eliminated


@pytest.mark.parametrize("binary", [True, False])
def test_failed_trials_help_neither_claim_and_leave_the_estimate_alone(binary: bool) -> None:
    clean, failed = (fixed_test(scores(95, 5, n), 0.8, 0.05, 0.05, 0.05, binary=binary) for n in (0, 60))
    assert clean.certified
    assert not failed.certified
    assert not failed.eliminated
    assert failed.interval.value == pytest.approx(0.95)
    assert failed.interval.low < clean.interval.low


def test_clusters_are_judged_by_their_means() -> None:
    groups = [f"g{number // 10}" for number in range(300)]
    answers = np.array([float(number // 10 % 10 != 0) for number in range(300)])
    alone, together = (
        fixed_test(answers, 0.8, 0.05, 0.05, 0.05, binary=True, groups=found) for found in (None, groups)
    )
    assert alone.certified
    assert not together.certified
