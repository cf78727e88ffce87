from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from evals.statistics.boundaries import design
from evals.statistics.stagewise import outcomes_of, stagewise_interval, stagewise_lower

LEVEL = 0.99375


@pytest.mark.parametrize("n", [60, 500])
def test_intervals_cover_the_truth_at_least_as_often_as_they_say(n: int) -> None:
    plan = design(n, 0.85, 0.03, 0.00625)
    outcomes = outcomes_of(plan)
    mass = outcomes.at_most - outcomes.below
    limits, estimates = np.empty((len(mass), 2)), np.empty(len(mass))
    for (look, certified), rows in outcomes.rows.items():
        for row in rows:
            count = outcomes.first[look, certified] + row - rows.start
            interval = stagewise_interval(plan, look, (count, count), certified, LEVEL)
            limits[row], estimates[row] = (interval.low, interval.high), interval.value
    for i in range(0, len(outcomes.means), 7):
        p = outcomes.means[i]
        covered = (limits[:, 0] <= p + 2e-4) & (p - 2e-4 <= limits[:, 1])
        assert mass[covered, i].sum() >= LEVEL - 1e-9
    i = int(np.searchsorted(outcomes.means, 0.85))
    above = mass[estimates > outcomes.means[i], i].sum()
    assert above == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("successes", [0, 3, 9, 12])
def test_with_a_single_look_the_interval_is_that_of_clopper_and_pearson(successes: int) -> None:
    plan = design(12, 0.5, 0.1, 0.05)
    ours = stagewise_interval(plan, 12, (successes, successes), False, 0.95)
    exact = binomtest(successes, 12).proportion_ci(0.95, method="exact")
    assert (ours.low, ours.high) == pytest.approx((exact.low, exact.high), abs=5e-4)
    assert ours.low <= ours.value <= ours.high


def test_an_earlier_certificate_is_stronger_than_a_later_one() -> None:
    plan = design(500, 0.85, 0.03, 0.00625)
    bounds = dict(zip(plan.looks, plan.certify, strict=True))
    lows = [stagewise_lower(plan, look, bounds[look], True, 0.00625) for look in (60, 150, 340, 500)]
    assert lows == sorted(lows, reverse=True)
    assert lows[-1] >= 0.85


def test_every_certificate_has_a_lower_bound_at_the_target_or_above() -> None:
    plan = design(500, 0.85, 0.03, 0.00625)
    outcomes = outcomes_of(plan)
    for (look, certified), rows in outcomes.rows.items():
        top = dict(zip(plan.looks, plan.certify, strict=True))[look]
        for row in rows if certified else ():
            count = outcomes.first[look, certified] + row - rows.start
            if count >= top:
                assert stagewise_lower(plan, look, count, True, plan.alpha) >= 0.85 - 1e-6


def test_failed_trials_widen_the_interval_on_both_sides() -> None:
    plan = design(500, 0.85, 0.03, 0.00625)
    sure = stagewise_interval(plan, 500, (430, 430), False, LEVEL)
    unsure = stagewise_interval(plan, 500, (428, 432), False, LEVEL)
    assert unsure.low < sure.low
    assert unsure.high > sure.high


def test_a_place_where_the_test_does_not_stop_has_no_interval() -> None:
    with pytest.raises(ValueError, match="does not stop"):
        stagewise_interval(design(500, 0.85, 0.03, 0.00625), 21, (20, 20), True, LEVEL)
