from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from evals.statistics.boundaries import alternative_of, design, look_schedule
from evals.statistics.operating import operating

EXAMPLE = {  # look: (give up at or below, certify at or above), from the specification; None where it gives no bound
    20: (14, None),
    50: (38, None),
    60: (47, 60),
    100: (81, 97),
    150: (125, 143),
    240: (205, 222),
    340: (295, 309),
    500: (422, 446),
}


def test_the_example_of_the_specification_is_reproduced_exactly() -> None:
    plan = design(500, 0.85, 0.03, 0.05 / 8)
    rows = {
        look: (low, high if high <= look else None)
        for look, low, high in zip(plan.looks, plan.give_up, plan.certify, strict=True)
        if look in EXAMPLE
    }
    assert rows == EXAMPLE


@pytest.mark.parametrize(("n", "looks"), [(500, 24), (2000, 36), (12, 1), (20, 1), (21, 2)])
def test_the_schedule_has_as_many_looks_as_specified_and_ends_at_n(n: int, looks: int) -> None:
    schedule = look_schedule(n)
    assert len(schedule) == looks
    assert schedule[-1] == n
    assert list(schedule) == sorted(set(schedule))


def independent_level(looks: tuple[int, ...], bounds: tuple[int, ...], p: float) -> float:
    """P(certify) by whole arrays and scipy.stats, sharing no code with the product."""
    mass, seen, certified = np.zeros(looks[-1] + 1), 0, 0.0
    mass[0] = 1.0
    for look, bound in zip(looks, bounds, strict=True):
        mass = np.convolve(mass, binom.pmf(np.arange(look - seen + 1), look - seen, p))[: looks[-1] + 1]
        certified += mass[bound:].sum()
        mass[bound:] = 0.0
        seen = look
    return float(certified)


@pytest.mark.parametrize("n", [25, 60, 137, 500, 2000])
@pytest.mark.parametrize("target", [0.5, 0.85, 0.97])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8, 0.001])
def test_certifying_at_the_target_is_never_more_probable_than_alpha(n: int, target: float, alpha: float) -> None:
    plan = design(n, target, 0.03, alpha)
    level = independent_level(plan.looks, plan.certify, target)
    assert level <= alpha + 1e-12
    never = (-1,) * len(plan.looks)
    climbing_on = replace(plan, eliminate=never, hopeless=never)
    assert level == pytest.approx(operating(climbing_on, target).certified, abs=1e-12)


def test_the_level_is_used_up_where_there_are_samples_enough() -> None:
    plan = design(2000, 0.85, 0.03, 0.00625)
    assert independent_level(plan.looks, plan.certify, 0.85) > 0.9 * 0.00625


@pytest.mark.parametrize("n", [60, 500, 2000, 5000])
@pytest.mark.parametrize(("target", "margin"), [(0.85, 0.03), (0.6, 0.1), (0.95, 0.02)])
@pytest.mark.parametrize("beta", [0.05, 0.01])
def test_eliminating_at_target_plus_margin_is_at_most_beta_without_curtailment(
    n: int, target: float, margin: float, beta: float
) -> None:
    plan = design(n, target, margin, 0.00625, beta, 0.0)
    assert operating(plan, target + margin).eliminated <= beta + 1e-12


def test_a_level_that_is_too_generous_is_noticed() -> None:
    plan = design(500, 0.85, 0.03, 0.05 / 8)
    lower = tuple(bound - 1 for bound in plan.certify)
    assert independent_level(plan.looks, lower, 0.85) > 0.05 / 8


def test_too_few_samples_cannot_certify_anything() -> None:
    assert not design(20, 0.85, 0.03, 0.00625).attainable
    assert design(60, 0.85, 0.03, 0.00625).attainable


def test_a_margin_that_would_pass_one_is_held_below_it() -> None:
    assert alternative_of(0.85, 0.03) == pytest.approx(0.88)
    assert alternative_of(0.98, 0.03) == pytest.approx(0.99)


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 0.85, 0.03, 0.05),
        (100, 1.0, 0.03, 0.05),
        (100, 0.85, 0.0, 0.05),
        (100, 0.85, 0.03, 0.0),
        (100, 0.85, 0.03, 1.5),
    ],
)
def test_numbers_outside_their_range_are_refused(arguments: tuple[int, float, float, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        design(*arguments)


@pytest.mark.parametrize(("n", "limit_seconds"), [(500, 0.1), (2000, 1.0)])
def test_a_design_takes_no_longer_than_promised(n: int, limit_seconds: float) -> None:
    start = time.perf_counter()
    design.__wrapped__(n, 0.85, 0.03, 0.05 / 8)
    assert time.perf_counter() - start < limit_seconds
