"""Expected and worst numbers of test samples, next to climbs that are simulated."""

from __future__ import annotations

import numpy as np
import pytest

from advisor.estimating.climbing import Belief, all_samples, ladder, plan_of
from advisor.goal import Goal
from advisor.ladder import Arm, Ladder, Observation

GOAL = Goal(target=0.8, margin=0.05)
N = 120


def climbed(means: list[float], seed: int) -> list[int]:
    """Samples of each arm in one climb of the real ladder."""
    rng = np.random.default_rng(seed)
    judge = Ladder([Arm(str(i), float(i)) for i in range(len(means))], GOAL, N, binary=True)
    asked = [0] * len(means)
    while batches := judge.next():
        for batch in batches:
            right = rng.random(batch.stop - batch.start) < means[int(batch.arm)]
            judge.record(batch.arm, [Observation(float(one), 0.1, 0.001) for one in right])
            asked[int(batch.arm)] = batch.stop
    return asked


def test_the_expected_samples_are_those_of_simulated_climbs() -> None:
    rng = np.random.default_rng(0)
    beliefs = [Belief(0.8, binary=True)] * 3
    draws = [[float(p) for p in rng.beta(4 * 0.8, 4 * 0.2, 3)] for _ in range(120)]
    taken = np.array([climbed(means, seed) for seed, means in enumerate(draws)]).mean(axis=0)
    foreseen = ladder(beliefs, plan_of(GOAL, N, 4), fresh=0).climbs
    assert [one.samples.expected for one in foreseen] == pytest.approx(list(taken), rel=0.2)


def test_the_worst_case_is_every_candidate_to_the_last_sample_and_the_best_one_look_at_the_first() -> None:
    found = ladder([Belief(0.8, binary=True)] * 3, plan_of(GOAL, N, 4), fresh=200)
    assert [one.samples.high for one in found.climbs] == [N, N, N]
    assert [one.samples.low for one in found.climbs] == [20, 0, 0]
    raced = ladder([Belief(0.8, binary=True)] * 3, plan_of(GOAL, N, 4), fresh=200, race=True)
    assert [one.samples.low for one in raced.climbs] == [20, 20, 20]
    assert raced.climbs[2].samples.expected > found.climbs[2].samples.expected


def test_probes_that_were_right_make_a_pick_likelier_and_those_after_it_cheaper() -> None:
    plan = plan_of(GOAL, N, 4)
    before = ladder([Belief(0.8, binary=True), Belief(0.8, binary=True)], plan, 0)
    after = ladder([Belief(0.8, binary=True, mean=1.0, n=20), Belief(0.8, binary=True)], plan, 0)
    assert after.unpicked < before.unpicked
    assert after.climbs[1].samples.expected < before.climbs[1].samples.expected
    wrong = ladder([Belief(0.8, binary=True, mean=0.2, n=20), Belief(0.8, binary=True)], plan, 0)
    assert wrong.climbs[0].samples.expected < before.climbs[0].samples.expected
    assert wrong.climbs[0].failures.expected > after.climbs[0].failures.expected


def test_samples_that_can_prove_nothing_are_not_asked_about() -> None:
    found = ladder([Belief(0.99, binary=True)], plan_of(Goal(target=0.99, margin=0.005), 20, 4), fresh=200)
    assert found.climbs[0].samples.high == 0
    assert found.unpicked == 1.0


def test_a_comparison_asks_about_all_samples_and_looks_into_no_more_failures_than_a_diagnosis_does() -> None:
    for binary in (True, False):
        found = all_samples(Belief(0.8, binary=binary, mean=0.1, n=30), plan_of(GOAL, N, 4))
        assert found.samples.low == found.samples.high == N
        assert 30 < found.failures.expected <= found.failures.high == 40
    sure = all_samples(Belief(0.8, binary=True, mean=1.0, n=200), plan_of(GOAL, N, 4))
    assert sure.failures.expected < 0.5
