from __future__ import annotations

import pytest
from scipy.stats import betabinom

from evals.statistics.curtailment import curtailment_bound, predictive_probability


@pytest.mark.parametrize(
    ("successes", "seen", "n", "needed"), [(47, 60, 500, 446), (81, 100, 500, 446), (5, 10, 20, 12)]
)
def test_the_predictive_probability_is_beta_binomial(successes: int, seen: int, n: int, needed: int) -> None:
    expected = betabinom.sf(needed - successes - 1, n - seen, 1 + successes, 1 + seen - successes)
    assert predictive_probability(successes, seen, n, needed) == pytest.approx(expected, rel=1e-9)


def test_what_is_reached_is_certain_and_what_is_out_of_reach_impossible() -> None:
    assert predictive_probability(8, 10, 20, 8) == 1.0
    assert predictive_probability(1, 10, 20, 12) == 0.0


def test_the_bound_is_the_last_count_below_gamma() -> None:
    bound = curtailment_bound(100, 500, 446, 0.005)
    assert predictive_probability(bound, 100, 500, 446) < 0.005 <= predictive_probability(bound + 1, 100, 500, 446)


def test_without_gamma_there_is_no_curtailment() -> None:
    assert curtailment_bound(100, 500, 446, 0.0) == -1


def test_everything_is_hopeless_when_the_count_needed_exceeds_the_samples() -> None:
    assert curtailment_bound(20, 25, 26, 0.005) == 20
