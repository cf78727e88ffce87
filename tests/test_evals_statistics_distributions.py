from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evals.statistics.distributions import (
    binomial_cdf,
    binomial_isf,
    binomial_pmf,
    binomial_sf,
    normal_isf,
    student_isf,
)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.85, 1.0])
@pytest.mark.parametrize("trials", [0, 1, 10, 400])
def test_the_binomial_mass_is_that_of_scipy(trials: int, p: float) -> None:
    expected = stats.binom.pmf(np.arange(trials + 1), trials, p)
    assert binomial_pmf(trials, p) == pytest.approx(expected, rel=1e-10, abs=1e-300)
    assert binomial_pmf(trials, np.array([p, 0.5])).shape == (2, trials + 1)


def test_tails_and_quantiles_are_those_of_scipy() -> None:
    n = np.arange(1, 400)
    for p in (0.3, 0.85, 0.99):
        for alpha in (0.5, 0.05, 0.00625):
            assert np.array_equal(binomial_isf(alpha, n, p), stats.binom.isf(alpha, n, p))
    assert binomial_cdf(3, 10, 0.4) == pytest.approx(stats.binom.cdf(3, 10, 0.4))
    assert binomial_sf(3, 10, 0.4) == pytest.approx(stats.binom.sf(3, 10, 0.4))
    assert normal_isf(0.025) == pytest.approx(1.959964, abs=1e-6)
    assert student_isf(0.025, 9) == pytest.approx(2.262157, abs=1e-6)
