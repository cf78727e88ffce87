from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from advisor.goal import Goal
from advisor.ladder import Arm, Batch, Ladder, Observation, Standing, ValueGate

GOAL = Goal(target=0.85, margin=0.03)


def arms(*prices: float | None) -> list[Arm]:
    return [Arm(f"a{i}", price) for i, price in enumerate(prices)]


def drawn(mean: float, n: int = 500, seed: int = 0, **changes: Any) -> list[Observation]:
    """0/1 observations of one arm."""
    scores = np.random.default_rng(seed).random(n) < mean
    return [replace(Observation(float(score), 0.5, 0.001), **changes) for score in scores]


def steady(n: int = 500) -> list[Observation]:
    """Seven of eight right, evenly: certified late or not at all."""
    return [Observation(float(i % 8 != 7), 0.5, 0.001) for i in range(n)]


def climb(ladder: Ladder, observations: dict[str, Sequence[Observation]]) -> list[Batch]:
    """Answer what the ladder asks for until it has no more questions."""
    asked = []
    while batches := ladder.next():
        for batch in batches:
            asked.append(batch)
            ladder.record(batch.arm, observations[batch.arm][batch.start : batch.stop])
    return asked


def statuses(ladder: Ladder) -> list[str]:
    return [standing.status for standing in ladder.standings()]


def test_the_cheapest_arm_that_meets_the_target_is_picked_and_dearer_ones_are_not_tried() -> None:
    ladder = Ladder(arms(1.0, 2.0, 3.0), GOAL, 500, binary=True)
    asked = climb(ladder, {"a0": drawn(0.5), "a1": drawn(0.95), "a2": drawn(0.99)})
    assert (ladder.picked, ladder.verdict) == ("a1", "pick")
    assert statuses(ladder) == ["eliminated", "certified", "not_needed"]
    assert {batch.arm for batch in asked} == {"a0", "a1"}
    assert ladder.standing("a2").n == 0


def test_batches_follow_the_looks_without_gap() -> None:
    ladder = Ladder(arms(1.0), GOAL, 500, binary=True)
    asked = climb(ladder, {"a0": steady()})
    assert [batch.start for batch in asked] == [0, *(batch.stop for batch in asked[:-1])]
    assert [batch.stop for batch in asked] == list(ladder.looks[: len(asked)])


def test_asking_twice_gets_the_same_answer() -> None:
    ladder = Ladder(arms(1.0, 2.0), GOAL, 500, binary=True)
    assert ladder.next() == ladder.next() == (Batch("a0", 0, 20),)
    assert (ladder.picked, ladder.verdict) == (None, "inconclusive")
    assert statuses(ladder) == ["waiting", "waiting"]


def test_arms_proved_short_lead_to_escalation() -> None:
    ladder = Ladder(arms(1.0, 2.0), GOAL, 500, binary=True)
    climb(ladder, {"a0": drawn(0.3), "a1": drawn(0.4)})
    assert (ladder.picked, ladder.verdict, ladder.outlook()) == (None, "escalate", None)
    assert "would need at least" in ladder.standing("a0").reason


def test_arms_that_these_samples_cannot_settle_are_inconclusive_with_what_it_would_take() -> None:
    ladder = Ladder(arms(1.0, 2.0), GOAL, 200, binary=True)
    observations = {"a0": drawn(0.3), "a1": steady(200)}
    climb(ladder, observations)
    assert ladder.verdict == "inconclusive"
    assert statuses(ladder)[1] in ("hopeless", "unresolved")
    outlook = ladder.outlook()
    assert outlook is not None
    assert outlook.arm == "a1"
    assert outlook.samples_needed is not None
    assert outlook.samples_needed > 1000
    assert outlook.extra_samples == outlook.samples_needed - 200
    assert outlook.usd == pytest.approx(outlook.samples_needed * 2.0 / 1000)
    assert 0.0 < outlook.shortfall < 0.02


def test_an_arm_below_the_target_is_not_told_to_buy_labels() -> None:
    ladder = Ladder(arms(1.0), GOAL, 200, binary=True)
    climb(ladder, {"a0": [Observation(float(i % 5 != 4), 0.5, 0.001) for i in range(200)]})
    outlook = ladder.outlook()
    assert outlook is not None
    assert (outlook.samples_needed, outlook.usd) == (None, None)
    assert outlook.shortfall > 0.03


def test_replaying_the_observations_gives_the_same_state() -> None:
    observations = {f"a{i}": drawn(mean, seed=i) for i, mean in enumerate((0.7, 0.84, 0.93))}
    first, second = (Ladder(arms(1.0, 2.0, 3.0), GOAL, 500, binary=True) for _ in range(2))
    assert climb(first, observations) == climb(second, observations)
    assert first.standings() == second.standings()
    assert first.ledger == second.ledger


def test_a_climb_can_stop_in_the_middle_and_be_taken_up_again() -> None:
    observations = {"a0": steady()}
    whole, part = Ladder(arms(1.0), GOAL, 500, binary=True), Ladder(arms(1.0), GOAL, 500, binary=True)
    for _ in range(3):
        (batch,) = part.next()
        part.record(batch.arm, observations["a0"][batch.start : batch.stop])
    standing = part.standing("a0")
    assert (standing.status, standing.n) == ("running", 40)
    assert standing.interval is not None
    climb(part, observations)
    climb(whole, observations)
    assert part.standings() == whole.standings()


# Failures


def test_a_candidate_with_too_many_errors_fails_as_soon_as_the_limit_is_out_of_reach() -> None:
    ladder = Ladder(arms(1.0, 2.0), GOAL, 500, binary=True)
    broken = [Observation(None, 0.5, 0.001) if i % 3 == 0 else Observation(1.0, 0.5, 0.001) for i in range(500)]
    climb(ladder, {"a0": broken, "a1": drawn(0.3)})
    standing = ladder.standing("a0")
    assert (standing.status, standing.n, standing.errors) == ("failed", 20, 7)
    assert "7 of 20 trials failed; at most 5 of 500 may" in standing.reason
    assert standing.mean == 1.0
    assert ladder.verdict == "escalate"


def test_certification_waits_until_the_share_of_errors_is_allowed() -> None:
    ladder = Ladder(arms(1.0), GOAL, 500, binary=True)
    observations = [Observation(None if i == 3 else 1.0, 0.5, 0.001) for i in range(500)]
    asked = climb(ladder, {"a0": observations})
    standing = ladder.standing("a0")
    assert (standing.status, standing.errors) == ("certified", 1)
    assert asked[-1].stop == standing.n == 100
    assert standing.at_least is not None
    assert standing.at_least >= 0.85


# Limits


def test_a_slow_candidate_is_not_picked_however_good_it_is() -> None:
    goal = replace(GOAL, max_p95_seconds=1.0)
    ladder = Ladder(arms(1.0, 2.0), goal, 500, binary=True)
    climb(ladder, {"a0": drawn(0.99, seconds=3.0), "a1": drawn(0.99, seconds=0.2)})
    assert ladder.picked == "a1"
    assert ladder.standing("a0").status == "eliminated"
    assert "p95 3 s, allowed 1 s" in ladder.standing("a0").reason
    assert ladder.standing("a1").n > 100, "a p95 is not proved by fewer requests"


def test_with_few_samples_the_p95_as_measured_decides_and_the_reason_says_so() -> None:
    ladder = Ladder(arms(1.0), replace(GOAL, target=0.6, max_p95_seconds=1.0), 60, binary=True)
    climb(ladder, {"a0": drawn(0.99, n=60, seconds=0.2)})
    assert ladder.picked == "a0"
    assert "cannot prove a p95" in ladder.standing("a0").reason


def test_a_dear_candidate_is_eliminated_by_what_it_measured() -> None:
    goal = replace(GOAL, max_usd_per_1k_requests=2.0)
    ladder = Ladder(arms(1.0, 2.0), goal, 500, binary=True)
    climb(ladder, {"a0": drawn(0.99, cost_usd=0.003), "a1": drawn(0.99, cost_usd=0.001)})
    assert statuses(ladder) == ["eliminated", "certified"]
    assert "$3 per 1,000 requests, allowed $2" in ladder.standing("a0").reason


def test_an_unknown_price_cannot_keep_a_dollar_limit() -> None:
    ladder = Ladder(arms(None), replace(GOAL, max_usd_per_1k_requests=2.0), 500, binary=True)
    climb(ladder, {"a0": drawn(0.99, cost_usd=None)})
    assert (ladder.picked, statuses(ladder)) == (None, ["hopeless"])
    assert "its price is not known" in ladder.standing("a0").reason
    assert ladder.standing("a0").samples_needed is None
    assert ladder.outlook() is None, "no labels settle a price"


def test_without_a_dollar_limit_an_unknown_price_does_not_matter() -> None:
    ladder = Ladder(arms(None, None), GOAL, 500, binary=True)
    climb(ladder, {"a0": drawn(0.99, cost_usd=None), "a1": []})
    assert ladder.picked == "a0"


# Too little data


def test_where_no_scores_could_certify_nothing_is_spent() -> None:
    ladder = Ladder(arms(1.0, 2.0), GOAL, 20, binary=True)
    assert ladder.next() == ()
    assert ladder.verdict == "inconclusive"
    assert statuses(ladder) == ["hopeless", "hopeless"]
    assert "even with every answer right" in ladder.standing("a0").reason


# Alpha


def test_alpha_is_shared_by_all_candidates_and_those_that_may_be_tuned() -> None:
    ladder = Ladder(arms(1.0, 2.0, 3.0), GOAL, 500, binary=True, reserved_arms=2)
    assert [row["alpha"] for row in ladder.ledger] == pytest.approx([0.01] * 5)
    assert [row["spent"] for row in ladder.ledger] == [False] * 5


def test_only_arms_that_were_tried_have_spent_their_alpha() -> None:
    ladder = Ladder(arms(1.0, 2.0), GOAL, 500, binary=True)
    climb(ladder, {"a0": drawn(0.99)})
    assert [(row["test"], row["spent"]) for row in ladder.ledger][:2] == [("a0", True), ("a1", False)]


def test_a_tuned_arm_joins_with_reserved_alpha_and_can_be_picked() -> None:
    ladder = Ladder(arms(1.0), GOAL, 500, binary=True, reserved_arms=1)
    climb(ladder, {"a0": drawn(0.3)})
    assert ladder.verdict == "escalate"
    ladder.add(Arm("tuned", 5.0, reserved=True))
    assert ladder.verdict == "inconclusive", "the climb goes on"
    climb(ladder, {"tuned": drawn(0.97)})
    assert (ladder.picked, ladder.verdict) == ("tuned", "pick")
    assert [row["test"] for row in ladder.ledger] == ["a0", "tuned"]
    with pytest.raises(ValueError, match="no alpha is reserved"):
        ladder.add(Arm("another", 5.0))


@pytest.mark.parametrize(
    ("price", "status", "picked"), [(0.5, "certified", "tuned"), (2.0, "not_needed", "a0"), (None, "certified", "a0")]
)
def test_after_a_pick_a_tuned_arm_is_needed_only_if_it_may_be_cheaper(
    price: float | None, status: str, picked: str
) -> None:
    ladder = Ladder(arms(1.0), GOAL, 500, binary=True)
    climb(ladder, {"a0": drawn(0.97)})
    ladder.add(Arm("tuned", price, reserved=True))
    climb(ladder, {"tuned": drawn(0.97, seed=1)})
    assert (ladder.standing("tuned").status, ladder.picked) == (status, picked)


def test_an_arm_cannot_join_twice() -> None:
    ladder = Ladder(arms(1.0), GOAL, 500, binary=True, reserved_arms=2)
    with pytest.raises(ValueError, match="on the ladder already"):
        ladder.add(Arm("a0", 1.0))
    with pytest.raises(ValueError, match="an entry for 'a0'"):
        Ladder([*arms(1.0), *arms(1.0)], GOAL, 500, binary=True)


# Modes, race, graded, groups


def decide(mode: str, mean: float, n: int = 500) -> Standing:
    ladder = Ladder(arms(1.0), replace(GOAL, mode=mode), n, binary=True, reserved_arms=0)  # type: ignore[arg-type]
    climb(ladder, {"a0": [Observation(float((i * mean) % 1.0 < mean), 0.5, 0.001) for i in range(n)]})
    return ladder.standing("a0")


def test_careful_asks_longer_before_it_gives_up() -> None:
    assert decide("careful", 0.84).n > decide("strict", 0.84).n


def test_tolerant_certifies_what_is_just_short_of_certifiable_in_strict_mode() -> None:
    assert decide("strict", 0.875).status != "certified"
    tolerant = decide("tolerant", 0.875)
    assert tolerant.status == "certified"
    assert tolerant.at_least is not None
    assert tolerant.at_least >= 0.84


def test_a_race_tries_arms_side_by_side_and_picks_the_same() -> None:
    observations = {f"a{i}": drawn(mean, seed=i) for i, mean in enumerate((0.6, 0.95, 0.96, 0.99))}
    alone = Ladder(arms(1.0, 2.0, 3.0, 4.0), GOAL, 500, binary=True)
    race = Ladder(arms(1.0, 2.0, 3.0, 4.0), GOAL, 500, binary=True, abreast=4)
    assert len(race.next()) == 4
    climb(alone, observations)
    climb(race, observations)
    assert race.picked == alone.picked == "a1"
    dearer = race.standing("a2")
    assert dearer.status in ("not_needed", "certified")
    assert dearer.n > 0
    assert dearer.interval is not None


def test_a_race_waits_for_the_cheaper_arms_before_it_picks() -> None:
    ladder = Ladder(arms(1.0, 2.0), GOAL, 500, binary=True, abreast=2)
    observations = {"a0": steady(), "a1": drawn(1.0)}
    while ladder.standing("a1").status != "certified":
        for batch in ladder.next():
            ladder.record(batch.arm, observations[batch.arm][batch.start : batch.stop])
    assert (ladder.picked, [batch.arm for batch in ladder.next()]) == (None, ["a0"])


def test_graded_scores_are_certified_by_betting() -> None:
    rng = np.random.default_rng(0)
    ladder = Ladder(arms(1.0, 2.0), GOAL, 500, binary=False)
    graded = {
        f"a{i}": [Observation(float(score), 0.5, 0.001) for score in rng.beta(20 * mean, 20 * (1 - mean), 500)]
        for i, mean in enumerate((0.7, 0.93))
    }
    climb(ladder, graded)
    assert ladder.picked == "a1"
    interval = ladder.standing("a1").interval
    assert interval is not None
    assert interval.method.startswith("confidence sequence")


def test_clusters_are_tried_whole_and_prove_less_than_as_many_independent_samples() -> None:
    groups = [str(i // 10) for i in range(500)]
    ladder = Ladder(arms(1.0), GOAL, 500, binary=True, groups=groups)
    asked = climb(ladder, {"a0": drawn(0.97)})
    assert all(batch.stop % 10 == 0 for batch in asked)
    alone = Ladder(arms(1.0), GOAL, 500, binary=True, groups=[None] * 500)
    climb(alone, {"a0": drawn(0.97)})
    assert ladder.standing("a0").n > alone.standing("a0").n


# Value gate


def test_a_test_that_cannot_pay_is_skipped_with_its_reason() -> None:
    ladder = Ladder(
        [Arm("a0", 1.0, dev_score=0.3, dev_n=50), Arm("a1", 8.0, dev_score=0.9, dev_n=50), Arm("a2", 9.0)],
        GOAL,
        500,
        binary=True,
        gate=ValueGate(requests=1000, least_usd=0.0),
    )
    climb(ladder, {"a2": drawn(0.97)})
    assert statuses(ladder) == ["skipped", "skipped", "certified"]
    assert ladder.standing("a1").reason.startswith("Testing it would cost about $")
    assert ladder.picked == "a2"


def test_a_test_that_costs_next_to_nothing_is_never_skipped() -> None:
    hopeless = Arm("a0", 1.0, dev_score=0.3, dev_n=50)
    for least, status in ((0.0, "skipped"), (0.10, "waiting")):
        gate = ValueGate(requests=1000, fallback_usd_per_1k=2.0, least_usd=least)
        assert statuses(Ladder([hopeless], GOAL, 500, binary=True, gate=gate)) == [status]


def test_with_much_traffic_every_plausible_arm_is_tested() -> None:
    candidates = [Arm("a0", 1.0, dev_score=0.8, dev_n=50), Arm("a1", 8.0), Arm("a2", None)]
    ladder = Ladder(candidates, GOAL, 500, binary=True, gate=ValueGate(requests=1e6))
    assert "skipped" not in statuses(ladder)


def test_skipped_arms_are_not_ruled_out() -> None:
    ladder = Ladder(
        [Arm("a0", 1.0, dev_score=0.1, dev_n=90)], GOAL, 500, binary=True, gate=ValueGate(1000, 1.1, least_usd=0.0)
    )
    assert (ladder.next(), ladder.verdict) == ((), "inconclusive")


def test_without_any_price_the_gate_skips_nothing() -> None:
    ladder = Ladder(arms(None, None), GOAL, 500, binary=True, gate=ValueGate(requests=1))
    assert statuses(ladder) == ["waiting", "waiting"]


# Misuse


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        (drawn(0.5, n=19), "19 observations came"),
        (drawn(0.5, n=21), "21 observations came"),
        ([Observation(0.5, 0.5, None)] * 20, "scores here are 0 or 1"),
        ([Observation(2.0, 0.5, None)] * 20, "scores here are 0 or 1"),
    ],
)
def test_observations_that_do_not_fit_are_refused(observations: list[Observation], message: str) -> None:
    ladder = Ladder(arms(1.0), GOAL, 500, binary=True)
    with pytest.raises(ValueError, match=message):
        ladder.record("a0", observations)
    assert ladder.next() == (Batch("a0", 0, 20),), "a refused batch is asked for again"


def test_graded_scores_outside_the_unit_interval_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores here are in \[0, 1\]"):
        Ladder(arms(1.0), GOAL, 500, binary=False).record("a0", [Observation(1.5, 0.5, None)] * 20)


def test_what_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was asked of 'a1'"):
        Ladder(arms(1.0, 2.0), GOAL, 500, binary=True).record("a1", drawn(0.5, n=20))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ladder([], GOAL, 500, binary=True, reserved_arms=0),
        lambda: Ladder(arms(1.0), GOAL, 500, binary=True, abreast=0),
        lambda: Ladder(arms(1.0), GOAL, 0, binary=True),
        lambda: Ladder(arms(1.0), replace(GOAL, target=1.0), 500, binary=True),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_refused(make: Callable[[], Ladder]) -> None:
    with pytest.raises(ValueError, match="got"):
        make()


def test_every_reason_is_a_sentence() -> None:
    for n, means in ((500, (0.3, 0.8, 0.86, 0.97)), (60, (0.8, 0.9)), (20, (0.9,))):
        ladder = Ladder(arms(*range(1, len(means) + 1)), GOAL, n, binary=True)
        for _ in range(100):
            for standing in ladder.standings():
                assert standing.reason[0].isupper() or standing.reason[0].isdigit() or standing.reason[0] == "a"
                assert standing.reason.endswith(".")
            for batch in ladder.next():
                ladder.record(batch.arm, drawn(means[int(batch.arm[1:])])[batch.start : batch.stop])


# The guarantee


def family_wise_error(n: int, replicates: int, mode: str = "strict") -> float:
    """P(any infeasible pick) with eight arms a hair under the target, the least favourable case."""
    rng, wrong = np.random.default_rng(17), 0
    seen = (Observation(0.0, 0.5, None), Observation(1.0, 0.5, None))
    candidates = arms(*(float(i + 1) for i in range(8)))
    for _ in range(replicates):
        answers = (rng.random((8, n)) < 0.85 - 1e-6).astype(int)
        ladder = Ladder(candidates, replace(GOAL, mode=mode), n, binary=True, reserved_arms=0)  # type: ignore[arg-type]
        climb(ladder, {f"a{i}": [seen[value] for value in answers[i]] for i in range(8)})
        wrong += ladder.picked is not None
    return wrong / replicates


def test_the_family_wise_error_is_held_in_the_least_favourable_case() -> None:
    assert family_wise_error(200, 400) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "careful"])
def test_the_family_wise_error_is_held_at_length(mode: str) -> None:
    assert family_wise_error(500, 4000, mode) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 4000)


@pytest.mark.slow
def test_all_intervals_of_a_climb_hold_together() -> None:
    rng, held, replicates = np.random.default_rng(23), 0, 1500
    means = np.array([0.7, 0.8, 0.84, 0.86, 0.89, 0.93])
    seen = (Observation(0.0, 0.5, None), Observation(1.0, 0.5, None))
    for _ in range(replicates):
        answers = (rng.random((6, 500)) < means[:, None]).astype(int)
        ladder = Ladder(arms(*range(1, 7)), GOAL, 500, binary=True, reserved_arms=0)
        climb(ladder, {f"a{i}": [seen[value] for value in answers[i]] for i in range(6)})
        tried = [(mean, one.interval) for mean, one in zip(means, ladder.standings(), strict=True) if one.interval]
        held += all(interval.covers(mean) for mean, interval in tried)
    assert held / replicates >= 0.95
