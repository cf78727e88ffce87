from __future__ import annotations

import numpy as np

from evals.statistics.dominance import Profile, dominators

GOOD = np.array([1.0] * 95 + [0.0] * 5)
BAD = np.array([1.0] * 60 + [0.0] * 40)


def front(*profiles: Profile) -> list[str]:
    return [id_ for id_, by in dominators(profiles, seed=0).items() if not by]


def test_dearer_slower_and_worse_is_dominated() -> None:
    found = dominators([Profile("a", GOOD, 1.0, 0.5), Profile("b", BAD, 2.0, 0.6)], seed=0)
    assert found == {"a": (), "b": ("a",)}


def test_being_cheaper_or_faster_keeps_a_worse_candidate_on_the_front() -> None:
    assert front(Profile("a", GOOD, 1.0, 0.5), Profile("b", BAD, 0.5, 0.6)) == ["a", "b"]
    assert front(Profile("a", GOOD, 1.0, 0.5), Profile("b", BAD, 2.0, 0.4)) == ["a", "b"]


def test_a_small_lead_proves_nothing() -> None:
    assert front(Profile("a", GOOD, 1.0, 0.5), Profile("b", np.roll(GOOD, 1), 2.0, 0.6)) == ["a", "b"]


def test_an_unknown_price_proves_nothing_unless_both_are_unknown() -> None:
    assert front(Profile("a", GOOD, None, 0.5), Profile("b", BAD, 2.0, 0.6)) == ["a", "b"]
    assert front(Profile("a", GOOD, None, 0.5), Profile("b", BAD, None, 0.6)) == ["a"]


def test_true_members_are_dropped_more_rarely_than_alpha() -> None:
    rng, dropped = np.random.default_rng(6), 0
    for _ in range(100):
        shared = rng.random(200)
        profiles = [
            Profile(str(i), (0.5 * shared + 0.5 * rng.random(200) < 0.7 + 0.01 * i).astype(np.float64), 1.0 + i, 0.5)
            for i in range(5)
        ]
        dropped += len(front(*profiles)) < 5
    assert dropped <= 5
