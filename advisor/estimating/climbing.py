"""How many test samples a climb will take, before it begins: the test's operating characteristics under a prior.

Before a candidate has answered anything its mean score is taken to lie around the target, since targets are set where
candidates are hoped to come: Beta with mean target and the weight of four samples, to which scores of probes are added.
Candidates are taken to be independent. Graded scores are treated as if they were 0/1 with the same mean, which takes
no fewer samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from advisor.contender import SETTINGS
from advisor.goal import Goal
from advisor.span import NONE, Span
from evals.statistics.boundaries import Design, design
from evals.statistics.operating import operating

_QUANTILES = 9
_WEIGHT = 4.0
"""Samples that the prior is worth."""
MOST_DIAGNOSED = 40
"""Failures of one candidate that a diagnosis asks about again."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What is known of a candidate's mean score: the target, and the mean of so many dev scores."""

    target: float
    binary: bool
    """Whether every score is 0 or 1."""
    mean: float = 0.0
    n: int = 0

    def wrong(self, mean: float) -> float:
        """Share of answers that count as failures at this mean; graded ones are those below the target.

        With the mean at the target half of the graded answers are taken to lie below it, with a mean of 1 none.
        """
        return 1.0 - mean if self.binary else min(1.0, 0.5 * (1.0 - mean) / (1.0 - self.target))

    def means(self) -> list[float]:
        """Equally likely values of the mean score."""
        a = _WEIGHT * self.target + self.n * self.mean
        b = _WEIGHT + self.n - a
        return [float(p) for p in betaincinv(a, b, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)]


@dataclass(frozen=True, slots=True)
class Climb:
    """What one candidate's test is expected to take."""

    samples: Span
    """Test samples of its test and, for a pick, of the fresh look afterwards."""
    failures: Span
    """Failures that are looked into because it fell short."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The climb as a whole."""

    climbs: tuple[Climb, ...]
    """In climbing order."""
    unpicked: float
    """Probability that no candidate is certified."""


def plan_of(goal: Goal, n: int, family: int) -> Design:
    """The test of every candidate, at its share of alpha."""
    slack, beta, gamma = SETTINGS[goal.mode]
    beta /= 1 + (goal.max_p95_seconds is not None) + (goal.max_usd_per_1k_requests is not None)
    return design(n, goal.target - slack, goal.margin + slack, goal.alpha / max(1, family), beta, gamma)


def ladder(beliefs: Sequence[Belief], test: Design, fresh: int, *, race: bool = False) -> Ladder:
    """Expected and worst numbers of samples for candidates in climbing order.

    Args:
        beliefs: one entry a candidate.
        test: the test of each.
        fresh: samples that a pick is run on afterwards, as far as there are any left.
        race: whether all are tested side by side, so that nobody is spared.
    """
    if not test.attainable:
        # Nobody is asked where not even perfect answers would prove anything.
        return Ladder(tuple(Climb(NONE, NONE) for _ in beliefs), 1.0)
    reached = 1.0
    climbs = []
    for position, belief in enumerate(beliefs):
        likely = _expected(belief, test)
        begun = 1.0 if race else reached
        again = likely.certified * min(fresh, max(0.0, test.n - likely.samples))
        least = test.looks[0] if position == 0 or race else 0
        samples = Span(least, max(least, begun * (likely.samples + again)), test.n)
        climbs.append(Climb(samples, Span(0, begun * likely.failures, min(MOST_DIAGNOSED, test.n))))
        reached *= 1.0 - likely.certified
    return Ladder(tuple(climbs), reached)


def all_samples(belief: Belief, test: Design) -> Climb:
    """A comparison runs every candidate on all samples; only how often it fails is not known."""
    failures = np.mean([_failures(operating(test, p).certified, test.n, belief.wrong(p)) for p in belief.means()])
    return Climb(Span.exactly(test.n), Span(0, float(failures), min(MOST_DIAGNOSED, test.n)))


@dataclass(frozen=True, slots=True)
class _Expected:
    """Means over a belief."""

    certified: float
    samples: float
    failures: float


def _expected(belief: Belief, test: Design) -> _Expected:
    means = belief.means()
    ends = [operating(test, p) for p in means]
    failures = [_failures(end.certified, end.mean_samples, belief.wrong(p)) for end, p in zip(ends, means, strict=True)]
    return _Expected(
        certified=float(np.mean([end.certified for end in ends])),
        samples=float(np.mean([end.mean_samples for end in ends])),
        failures=float(np.mean(failures)),
    )


def _failures(certified: float, samples: float, wrong: float) -> float:
    """Failures that a diagnosis looks into: none of a candidate that is certified."""
    return (1.0 - certified) * min(MOST_DIAGNOSED, samples * wrong)
