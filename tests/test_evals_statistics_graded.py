from __future__ import annotations

import numpy as np
import pytest

from evals.statistics.binary import BinaryTest
from evals.statistics.boundaries import design
from evals.statistics.graded import BettingTest, units_of
from evals.statistics.sequential import betting_test
from evals.statistics.types import Status


def run(test: BettingTest, scores: np.ndarray) -> tuple[Status, int]:
    for look in test.looks:
        status = test.decide(scores[:look])
        if status is not Status.CONTINUE:
            break
    return status, look


def test_samples_without_groups_are_units_by_themselves() -> None:
    units = units_of(4)
    assert units.of_sample.tolist() == [0, 1, 2, 3]
    assert units.complete_at.tolist() == [1, 2, 3, 4]


def test_a_unit_counts_once_its_last_sample_is_in() -> None:
    units = units_of(6, ["a", "b", "a", None, "b", "a"])
    assert units.of_sample.tolist() == [2, 1, 2, 0, 1, 2]
    assert units.complete_at.tolist() == [4, 5, 6]
    assert units.weights.tolist() == [1 / 3, 2 / 3, 1.0]
    scores = np.array([1.0, 0.0, 1.0, 0.5, np.nan, 0.0])
    assert units.means(scores[:5], 1.0).tolist() == [0.5, 0.5]
    assert units.means(scores, 0.0) == pytest.approx([0.5, 0.0, 2 / 3])


def test_groups_must_cover_all_samples() -> None:
    with pytest.raises(ValueError, match="one entry per sample"):
        units_of(3, ["a"])


def test_looks_fall_where_a_cluster_is_complete() -> None:
    test = betting_test(100, 0.5, 0.1, 0.05, groups=[str(i // 7) for i in range(100)])
    assert all(look % 7 == 0 or look == 100 for look in test.looks)
    assert test.looks[0] == 21
    assert test.looks[-1] == 100


@pytest.mark.parametrize(("mean", "expected"), [(0.97, Status.CERTIFIED), (0.5, Status.ELIMINATED)])
def test_clear_cases_end_early_on_the_right_side(mean: float, expected: Status) -> None:
    rng = np.random.default_rng(4)
    status, n = run(betting_test(1000, 0.85, 0.03, 0.00625), rng.beta(20 * mean, 20 * (1 - mean), 1000))
    assert (status, n < 1000) == (expected, True)


@pytest.mark.parametrize(("gamma", "expected"), [(0.005, Status.HOPELESS), (0.0, Status.ELIMINATED)])
def test_an_arm_just_below_the_target_is_hopeless_unless_gamma_is_zero(gamma: float, expected: Status) -> None:
    scores = (np.random.default_rng(4).random(300) < 0.84).astype(np.float64)
    assert run(betting_test(300, 0.85, 0.03, 0.00625, gamma=gamma), scores)[0] is expected


def test_failed_trials_help_neither_side() -> None:
    test = betting_test(200, 0.5, 0.1, 0.05)
    assert test.decide(np.full(200, np.nan)) is Status.UNRESOLVED
    assert test.interval(np.full(200, np.nan), Status.UNRESOLVED).low == 0.0
    assert test.interval(np.full(200, np.nan), Status.UNRESOLVED).high == 1.0


def test_a_count_between_looks_is_refused() -> None:
    with pytest.raises(ValueError, match="not at 21"):
        betting_test(200, 0.5, 0.1, 0.05).decide(np.ones(21))


def test_too_few_units_cannot_certify() -> None:
    assert not betting_test(20, 0.85, 0.03, 0.00625).attainable
    assert betting_test(100, 0.85, 0.03, 0.00625).attainable
    assert not betting_test(100, 0.85, 0.03, 0.00625, groups=["one"] * 100).attainable


def test_a_certified_bound_is_at_least_the_target() -> None:
    scores = np.ones(100)
    test = betting_test(100, 0.85, 0.03, 0.00625)
    status, n = run(test, scores)
    assert status is Status.CERTIFIED
    assert test.lower_bound(scores[:n], status) >= 0.85


def test_clusters_keep_the_level_that_ignoring_them_breaks() -> None:
    rng, alpha, size, runs = np.random.default_rng(11), 0.05, 5, 600
    groups = [str(i // size) for i in range(200)]
    naive, aware = BinaryTest(design(200, 0.85, 0.03, alpha)), betting_test(200, 0.85, 0.03, alpha, groups=groups)
    wrong = {"naive": 0, "aware": 0}
    for _ in range(runs):
        # Beta means with intra-cluster correlation 1 / (1 + 2.4 + 0.42) = 0.26.
        means = np.repeat(rng.beta(2.4, 2.4 * 0.15 / 0.85, 200 // size), size)
        scores = (rng.random(200) < means).astype(np.float64)
        wrong["naive"] += any(naive.decide(scores[:n]) is Status.CERTIFIED for n in naive.looks)
        wrong["aware"] += aware.decide(scores) is Status.CERTIFIED
    assert wrong["naive"] / runs > 2 * alpha
    assert wrong["aware"] / runs <= alpha


def test_unequal_clusters_are_judged_by_the_mean_over_samples() -> None:
    # Small clusters score 1 and the large ones 0.7: the mean of cluster means is 0.85, that over samples is 0.73.
    groups, scores = [], []
    for i in range(400):
        size = 1 if i % 2 else 9
        groups += [str(i)] * size
        scores += [1.0 if size == 1 else 0.7] * size
    test = betting_test(len(scores), 0.8, 0.03, 0.00625, gamma=0.0, groups=groups)
    status, n = run(test, np.array(scores))
    assert status is Status.ELIMINATED
    assert test.interval(np.array(scores)[:n], status).value == pytest.approx(0.73, abs=0.01)
