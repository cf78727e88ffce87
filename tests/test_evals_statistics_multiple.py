from __future__ import annotations

import numpy as np
import pytest

from evals.statistics.multiple import compare_all, holm, may_be_best


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5], [0.5]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.01, 0.01, 0.5], [0.03, 0.03, 0.5]),
        ([], []),
    ],
)
def test_holm_steps_down(raw: list[float], corrected: list[float]) -> None:
    assert holm(raw) == pytest.approx(corrected)


def correlated(means: list[float], n: int, seed: int) -> dict[str, np.ndarray]:
    shared = np.random.default_rng(seed).random(n)
    own = np.random.default_rng(seed + 1).random((len(means), n))
    mixed = np.where(np.random.default_rng(seed + 2).random(n) < 0.5, shared, own)
    return {f"m{i}": (mixed[i] < mean).astype(np.float64) for i, mean in enumerate(means)}


def test_every_pair_is_compared_once_with_a_corrected_p_value() -> None:
    rows = compare_all(correlated([0.9, 0.5, 0.5], 200, 0), seed=0)
    assert [(row.a, row.b) for row in rows] == [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]
    assert all(row.p_holm >= row.paired.p_value for row in rows)
    assert rows[0].p_holm < 0.001
    assert rows[2].p_holm > 0.05


def test_the_best_is_kept_and_the_clearly_worse_are_ruled_out() -> None:
    assert may_be_best(correlated([0.9, 0.89, 0.6, 0.5], 300, 1), seed=0) == ("m0", "m1")


def test_equals_are_all_kept_nearly_always() -> None:
    lost = sum("m0" not in may_be_best(correlated([0.7] * 4, 60, 10 * i), seed=0) for i in range(100))
    assert lost <= 11


def test_clusters_and_failures_weigh_less() -> None:
    scores = correlated([0.9, 0.7], 40, 5)
    assert may_be_best(scores, seed=0) == ("m0",)
    assert may_be_best(scores, seed=0, groups=[str(i // 20) for i in range(40)]) == ("m0", "m1")
    scores["m0"][1:] = np.nan
    assert may_be_best(scores, seed=0) == ("m0", "m1")


def test_a_candidate_that_always_wins_by_the_same_amount_rules_the_other_out_of_nothing() -> None:
    assert may_be_best({"a": np.ones(30)}, seed=0) == ("a",)
    assert may_be_best({"a": np.ones(30), "b": np.ones(30)}, seed=0) == ("a", "b")
    assert may_be_best({"a": np.ones(30), "b": np.zeros(30)}, seed=0) == ("a",)
