from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from evals.statistics.paired import compare_pair, mcnemar_exact, paired_permutation


@pytest.mark.parametrize(("ahead", "behind"), [(1, 8), (0, 5), (4, 4), (30, 12)])
def test_mcnemar_is_the_exact_sign_test_of_the_discordant_pairs(ahead: int, behind: int) -> None:
    assert mcnemar_exact(ahead, behind) == pytest.approx(binomtest(ahead, ahead + behind).pvalue)


def test_without_discordant_pairs_nothing_differs() -> None:
    assert mcnemar_exact(0, 0) == 1.0


def test_few_differences_are_enumerated() -> None:
    assert paired_permutation(np.array([0.1, 0.2, 0.3]), seed=0) == pytest.approx(2 / 8)
    assert paired_permutation(np.array([0.5, 0.0, -0.5]), seed=0) == 1.0
    assert paired_permutation(np.zeros(5), seed=0) == 1.0


def test_many_differences_are_sampled_reproducibly() -> None:
    differences = np.random.default_rng(1).normal(0.1, 1.0, 300)
    p = paired_permutation(differences, seed=3)
    assert p == paired_permutation(differences, seed=3)
    exact = 2.0 * 0.5 * (1.0 - np.tanh(0.0))
    assert 0.0 < p <= exact


def test_p_values_are_uniform_at_most_when_nothing_differs() -> None:
    rng, below = np.random.default_rng(2), 0
    for _ in range(200):
        below += paired_permutation(rng.normal(0.0, 1.0, 20), seed=4) <= 0.05
    assert below / 200 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_binary_scores_are_compared_by_discordant_pairs() -> None:
    first, second = np.array([1.0] * 80 + [0.0] * 20), np.array([1.0] * 60 + [0.0] * 40)
    result = compare_pair(first, second, seed=0)
    assert result.method.startswith("exact McNemar")
    assert result.difference == pytest.approx(0.2)
    assert 0.0 < result.low < 0.2 < result.high
    assert result.p_value == pytest.approx(2 / 2**20)


def test_no_disagreement_is_not_certainty() -> None:
    result = compare_pair(np.ones(50), np.ones(50), seed=0)
    assert result.p_value == 1.0
    assert result.low < 0.0 < result.high


def test_swapping_the_candidates_mirrors_the_result() -> None:
    rng = np.random.default_rng(3)
    for binary in (True, False):
        x, y = rng.random(80), rng.random(80)
        if binary:
            x, y = np.round(x), np.round(y)
        one, other = compare_pair(x, y, seed=0), compare_pair(y, x, seed=0)
        assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
        assert one.p_value == pytest.approx(other.p_value)


def test_samples_that_one_of_them_failed_are_left_out() -> None:
    first, second = np.array([1.0, np.nan, 0.0, 1.0]), np.array([0.0, 1.0, np.nan, 1.0])
    assert compare_pair(first, second, seed=0).n == 2
    assert compare_pair(np.full(2, np.nan), np.ones(2), seed=0).n == 0


def test_clusters_are_compared_as_wholes() -> None:
    rng = np.random.default_rng(4)
    difference = np.repeat(rng.normal(0.05, 0.2, 20), 10)
    second = np.full(200, 0.5)
    alone = compare_pair(np.clip(second + difference, 0, 1), second, seed=0)
    together = compare_pair(
        np.clip(second + difference, 0, 1), second, seed=0, groups=[str(i // 10) for i in range(200)]
    )
    assert together.difference == pytest.approx(alone.difference)
    assert together.high - together.low > 2.0 * (alone.high - alone.low)
    assert together.p_value > alone.p_value


def test_one_cluster_says_nothing_about_the_difference() -> None:
    result = compare_pair(np.ones(5), np.zeros(5), seed=0, groups=["a"] * 5)
    assert (result.low, result.high) == (-1.0, 1.0)


def test_intervals_of_the_difference_cover_it() -> None:
    rng, covered = np.random.default_rng(5), 0
    for _ in range(500):
        shared = rng.random(100)
        x, y = (shared < 0.9).astype(np.float64), ((shared + 0.1 * rng.random(100)) < 0.9).astype(np.float64)
        result = compare_pair(x, y, seed=0)
        covered += result.low <= 0.05 <= result.high
    assert covered / 500 >= 0.93


def test_scores_of_different_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        compare_pair(np.ones(3), np.ones(4), seed=0)
