"""The door to sequential tests: one function that picks the right one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from evals.statistics.binary import BinaryTest
from evals.statistics.boundaries import alternative_of, design
from evals.statistics.graded import BettingTest, units_of
from evals.statistics.types import FloatArray, Interval, SequentialTest, Status

__all__ = ["FloatArray", "Interval", "SequentialTest", "Status", "betting_test", "binary_test", "make_test"]


def binary_test(
    n: int, target: float, margin: float, alpha: float, *, beta: float = 0.05, gamma: float = 0.005
) -> BinaryTest:
    """The exact group-sequential test for 0/1 scores of n independent samples; arguments as for `design`."""
    return BinaryTest(design(n, target, margin, alpha, beta, gamma))


def betting_test(
    n: int,
    target: float,
    margin: float,
    alpha: float,
    *,
    beta: float = 0.05,
    gamma: float = 0.005,
    groups: Sequence[Hashable | None] | None = None,
) -> BettingTest:
    """The betting test for scores in [0, 1], by cluster means when `groups` names the clusters of the samples."""
    return BettingTest(units_of(n, groups), target, alternative_of(target, margin), alpha, beta, gamma)


def make_test(
    n: int,
    target: float,
    margin: float,
    alpha: float,
    *,
    beta: float = 0.05,
    gamma: float = 0.005,
    binary: bool,
    groups: Sequence[Hashable | None] | None = None,
) -> SequentialTest:
    """The most powerful test that keeps its level on such data.

    Args:
        n: samples there are.
        target: mean to certify against, in (0, 1).
        margin: a candidate with mean target + margin is eliminated with probability at most beta.
        alpha: P(certify | mean < target) is at most this.
        beta: see margin.
        gamma: give up when certifying has become less probable than this; 0 never.
        binary: every score is 0 or 1.
        groups: one entry per sample in the shared order, None for a sample by itself; None when there are no groups.

    Returns:
        The exact binomial test for independent 0/1 scores, else the betting test.

    Raises:
        ValueError: a number outside its range.
    """
    clustered = groups is not None and len({g for g in groups if g is not None}) < sum(g is not None for g in groups)
    if binary and not clustered:
        return binary_test(n, target, margin, alpha, beta=beta, gamma=gamma)
    return betting_test(n, target, margin, alpha, beta=beta, gamma=gamma, groups=groups)
