"""Who is dominated on score, cost and latency: only what is proved, everyone else is possibly on the front.

Fronts of point estimates are wrong often where candidates are close. Here a candidate is dominated only if another
that is no dearer and no slower scores better by an exact paired test at alpha over the number of pairs, so that the
probability of dropping any true member for its score is at most alpha (Bonferroni). Cost and p95 seconds are taken
as measured: they are nearly free of noise after 50 to 100 requests.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from evals.statistics.paired import compare_pair
from evals.statistics.types import FloatArray


@dataclass(frozen=True, eq=False)
class Profile:
    """What a candidate measured."""

    id: str
    scores: FloatArray
    """In [0, 1], shape (n,), NaN where the trial failed; the same samples in the same order for all candidates."""
    usd_per_1k_requests: float | None
    p95_seconds: float | None


def dominators(
    profiles: Sequence[Profile],
    *,
    seed: int,
    alpha: float = 0.05,
    groups: Sequence[Hashable | None] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Candidate id -> ids of those shown to dominate it; an empty tuple means possibly on the front."""
    level = alpha / max(1, len(profiles) * (len(profiles) - 1) // 2)
    found: dict[str, tuple[str, ...]] = {}
    for weak in profiles:
        rivals = [one for one in profiles if one is not weak and _no_worse(one, weak)]
        tests = [(one.id, compare_pair(one.scores, weak.scores, seed=seed, groups=groups)) for one in rivals]
        found[weak.id] = tuple(id_ for id_, test in tests if test.difference > 0.0 and test.p_value <= level)
    return found


def _no_worse(one: Profile, other: Profile) -> bool:
    """No dearer and no slower, as far as both are known; an unknown price or time proves nothing."""
    pairs = ((one.usd_per_1k_requests, other.usd_per_1k_requests), (one.p95_seconds, other.p95_seconds))
    return all((a is None and b is None) or (a is not None and b is not None and a <= b) for a, b in pairs)
