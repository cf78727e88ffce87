from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from evals.statistics.betting import (
    bets,
    binary_confidence_sequence,
    binary_log_capital,
    confidence_sequence,
    ever_reaches,
    log_capital,
    lower_confidence_bound,
)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.85])
def test_the_expected_capital_under_the_null_is_one(p: float) -> None:
    sequences = np.array(list(product((0.0, 1.0), repeat=8)))
    probability = np.prod(np.where(sequences == 1.0, p, 1.0 - p), axis=1)
    for scores, null in ((sequences, p), (1.0 - sequences, 1.0 - p)):  # bets above the mean, and below it
        mean = sum(w * np.exp(log_capital(x, null)[-1]) for w, x in zip(probability, scores, strict=True))
        assert mean == pytest.approx(1.0, abs=1e-12)


def test_the_expected_capital_is_at_most_one_for_graded_scores_weights_and_smaller_means() -> None:
    values, probability = np.array([0.0, 0.3, 0.9, 1.0]), np.array([0.1, 0.2, 0.3, 0.4])
    truth = float(values @ probability)
    weights = np.array([1.0, 0.25, 0.5, 1.0])
    rows = list(product(range(4), repeat=4))
    for null in (truth, truth + 0.05):
        mean = sum(
            np.prod(probability[list(row)]) * np.exp(log_capital(values[list(row)], null, weights)[-1]) for row in rows
        )
        assert mean <= 1.0 + 1e-12


@pytest.mark.parametrize("kind", ["binary", "partial credit", "rare disasters"])
def test_the_null_is_rejected_at_most_as_often_as_promised(kind: str) -> None:
    rng, alpha, rejected = np.random.default_rng(3), 0.05, 0
    for _ in range(600):
        if kind == "binary":
            scores = (rng.random(300) < 0.85).astype(np.float64)
        elif kind == "partial credit":
            scores = rng.beta(8.5, 1.5, 300)
        else:
            scores = np.where(rng.random(300) < 0.05, 0.0, 0.85 / 0.95)
        rejected += ever_reaches(-np.log(alpha), scores, 0.85)
    assert rejected / 600 <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / 600)


def test_the_shortcut_agrees_with_the_capital() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        scores = rng.random(40)
        best = float(log_capital(scores, 0.4).max())
        assert ever_reaches(best - 1e-9, scores, 0.4)
        assert not ever_reaches(best + 1e-9, scores, 0.4)


def test_only_the_count_matters_for_binary_scores() -> None:
    scores = np.array([1.0] * 30 + [0.0] * 10)
    assert binary_log_capital(30, 40, 0.6) == pytest.approx(log_capital(scores, 0.6)[-1])
    fast, slow = binary_confidence_sequence(30, 30, 40, 0.05), confidence_sequence(scores, scores, 0.05)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-4)


def test_capital_falls_in_the_mean_so_that_limits_are_unique() -> None:
    scores = np.random.default_rng(1).beta(3, 1, 60)
    capital = [log_capital(scores, m)[-1] for m in np.linspace(0.01, 0.99, 50)]
    assert np.all(np.diff(capital) < 0.0)


def test_bets_never_ruin() -> None:
    for m in (0.01, 0.5, 0.99):
        assert np.all(bets(m) * m < 1.0)


def test_a_confidence_sequence_holds_the_sample_mean_and_shrinks() -> None:
    rng = np.random.default_rng(2)
    scores = rng.beta(6, 2, 1000)
    short, long = confidence_sequence(scores[:50], scores[:50], 0.05), confidence_sequence(scores, scores, 0.05)
    for interval in (short, long):
        assert interval.low <= interval.value <= interval.high
    assert long.high - long.low < short.high - short.low
    assert long.low <= lower_confidence_bound(scores, 0.05) <= long.value


def test_limits_reach_the_ends_where_the_data_does() -> None:
    assert binary_confidence_sequence(0, 0, 5, 0.05).low == 0.0
    assert binary_confidence_sequence(5, 5, 5, 0.05).high == 1.0
