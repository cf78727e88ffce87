from __future__ import annotations

import numpy as np
import pytest

from evals.statistics.display import bca, clustered, score_interval, wilson
from evals.statistics.graded import units_of


def test_wilson_agrees_with_the_formula() -> None:
    interval, z = wilson(85, 100), 1.959964
    centre, reach = (0.85 + z**2 / 200) / (1 + z**2 / 100), z * np.sqrt(0.85 * 0.15 / 100 + z**2 / 40_000)
    reach /= 1 + z**2 / 100
    assert (interval.low, interval.high) == pytest.approx((centre - reach, centre + reach), abs=1e-6)


def test_a_bootstrap_is_seeded_and_needs_different_scores() -> None:
    scores = np.random.default_rng(0).beta(5, 2, 200)
    assert bca(scores, seed=1) == bca(scores, seed=1)
    assert bca(scores, seed=1).low < scores.mean() < bca(scores, seed=1).high
    with pytest.raises(ValueError, match="two different"):
        bca(np.full(200, 0.5), seed=1)


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    scores = np.repeat(rng.random(60), 5)
    wide = clustered(scores, units_of(300, [str(i // 5) for i in range(300)]))
    narrow = clustered(scores, units_of(300))
    assert wide.high - wide.low > 2.0 * (narrow.high - narrow.low)


@pytest.mark.parametrize(
    ("scores", "groups", "method"),
    [
        (np.tile([1.0, 0.0, np.nan], 20), None, "Wilson"),
        (np.linspace(0, 1, 150), None, "BCa"),
        (np.linspace(0, 1, 50), None, "confidence sequence"),
        (np.full(200, 0.5), None, "confidence sequence"),
        (np.linspace(0, 1, 150), [str(i // 3) for i in range(150)], "cluster-robust"),
        (np.linspace(0, 1, 60), [str(i // 3) for i in range(60)], "confidence sequence"),
    ],
)
def test_the_interval_suits_the_scores(scores: np.ndarray, groups: list[str] | None, method: str) -> None:
    interval = score_interval(scores, seed=0, groups=groups)
    assert interval is not None
    assert interval.method.startswith(method)
    assert interval.value == pytest.approx(np.nanmean(scores))


def test_no_scores_have_no_interval() -> None:
    assert score_interval(np.full(3, np.nan), seed=0) is None
