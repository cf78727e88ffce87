from __future__ import annotations

import numpy as np
import pytest

from evals.statistics.reliability import pass_hat


def test_pass_hat_is_the_share_of_subsets_that_all_succeed() -> None:
    assert pass_hat(np.array([0, 1, 2, 3, 4]), 4, 2) == pytest.approx([0, 0, 1 / 6, 3 / 6, 1])
    assert pass_hat(np.array([3]), 4, 1) == pytest.approx([0.75])


def test_pass_hat_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    successes = rng.binomial(5, 0.8, 40_000)
    assert pass_hat(successes, 5, 3).mean() == pytest.approx(0.8**3, abs=0.006)


@pytest.mark.parametrize(("successes", "repeats", "k"), [([1], 2, 3), ([1], 2, 0), ([3], 2, 1), ([-1], 2, 1)])
def test_impossible_counts_are_refused(successes: list[int], repeats: int, k: int) -> None:
    with pytest.raises(ValueError, match="repeats"):
        pass_hat(np.array(successes), repeats, k)
