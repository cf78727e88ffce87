from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from evals.statistics.power import fixed_samples, required_samples, resolvable_margin, sequential_power

MARGINS = {100: 0.112, 200: 0.087, 300: 0.072, 500: 0.060, 1000: 0.042, 2000: 0.032}  # decision.md, step 1


@pytest.mark.parametrize(("n", "margin"), MARGINS.items())
def test_the_margins_of_the_specification_are_resolved(n: int, margin: float) -> None:
    assert resolvable_margin(n, 0.85, 0.05 / 8) == pytest.approx(margin, abs=0.002)


@pytest.mark.parametrize(
    ("target", "difference", "alpha", "n80", "n90"),
    [  # decision.md, section 6, found there on a coarser grid of n
        (0.80, 0.02, 0.05, 2462, 3370),
        (0.85, 0.03, 0.05, 851, 1128),
        (0.85, 0.03, 0.05 / 8, 1507, 1870),
        (0.90, 0.04, 0.05 / 8, 544, 674),
        (0.95, 0.02, 0.05 / 8, 1152, 1402),
    ],
)
def test_the_fixed_test_needs_as_many_samples_as_specified(
    target: float, difference: float, alpha: float, n80: int, n90: int
) -> None:
    assert fixed_samples(target, difference, alpha, 0.8) == pytest.approx(n80, rel=0.06)
    assert fixed_samples(target, difference, alpha, 0.9) == pytest.approx(n90, rel=0.06)


def test_power_holds_from_the_number_found_onwards_and_not_before() -> None:
    n = fixed_samples(0.85, 0.05, 0.05, 0.8)
    assert n is not None
    around = np.arange(n - 1, n + 200)
    power = binom.sf(binom.isf(0.05, around, 0.85), around, 0.90)
    assert np.all(power[1:] >= 0.8)
    assert power[0] < 0.8


def test_the_sequential_test_has_the_power_it_is_quoted_with() -> None:
    n = required_samples(0.85, 0.05, 0.05 / 8)
    assert n is not None
    assert sequential_power(n, 0.85, 0.05, 0.05 / 8) >= 0.9
    assert sequential_power(int(0.9 * n), 0.85, 0.05, 0.05 / 8) < 0.9


@pytest.mark.parametrize("function", [fixed_samples, required_samples])
def test_what_no_number_of_samples_shows_needs_none(function: object) -> None:
    assert callable(function)
    for difference in (0.0, -0.02, 0.2, 1e-5):
        assert function(0.85, difference, 0.05, 0.8) is None


def test_a_tiny_margin_is_quoted_without_designing_huge_tests() -> None:
    n = required_samples(0.85, 0.005, 0.05 / 8)
    assert n is not None
    assert 60_000 < n < 120_000


def test_no_margin_is_resolved_by_a_handful_of_samples() -> None:
    assert resolvable_margin(20, 0.85, 0.05 / 8) is None
