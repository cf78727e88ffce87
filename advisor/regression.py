"""Whether a candidate got worse, and whether a comparison reaches a mark: the two decisions that a CI run may fail on.

A candidate counts as worse when its scores are proved to be more than `margin` below the former ones, one-sided, at
level `alpha`: an unchanged candidate passes in at least 95 of 100 runs, on however few samples. With margin 0 the proof
is the exact McNemar test for 0/1 scores, else sign flips; with a margin it is the upper end of the interval at level
1 - 2 alpha, as in trials of non-inferiority. To pass proves nothing: the interval, and the smallest drop that would
have been seen, say how much can have been missed.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.errors import InputError, Problem
from backends.wording import counted
from evals.statistics.distributions import normal_isf
from evals.statistics.paired import compare_pair
from evals.statistics.types import FloatArray

ALPHA = 0.05
_POWER = 0.8


@dataclass(frozen=True, slots=True)
class Rule:
    """When a candidate counts as worse."""

    margin: float = 0.0
    """Drop of the mean score that is put up with."""
    alpha: float = ALPHA
    """Probability at most that an unchanged candidate fails."""


def check_rule(rule: Rule) -> None:
    """Raise InputError for a rule that cannot be kept."""
    if not 0.0 <= rule.margin < 1.0:
        what = f"is {rule.margin:g}, but a drop of scores lies between 0 and 1."
        raise InputError(Problem("--margin", what, "Write 0.02 for two points."))
    if not 0.0 < rule.alpha < 0.5:
        raise InputError(Problem("--alpha", f"is {rule.alpha:g}, but a level lies between 0 and 0.5.", "Write 0.05."))


@dataclass(frozen=True, slots=True)
class Decision:
    """Before and now on the same samples."""

    passed: bool
    before: float
    """Mean score then, over the samples answered both times."""
    now: float
    difference: float
    """Now minus before."""
    low: float
    high: float
    """Interval of the difference at level 1 - 2 alpha: each end by itself holds at 1 - alpha."""
    p_worse: float
    """One-sided, of no drop."""
    n: int
    """Samples answered both times."""
    visible: float | None
    """The drop beyond the margin that would have been seen in 8 of 10 cases; None without an interval."""
    rule: Rule


def decide(
    before: FloatArray,
    now: FloatArray,
    rule: Rule,
    *,
    seed: int = 0,
    groups: Sequence[Hashable | None] | None = None,
) -> Decision:
    """Whether scores dropped by more than the margin; arrays of shape (samples,), NaN where there is no answer."""
    pair = compare_pair(now, before, seed=seed, level=1.0 - 2.0 * rule.alpha, groups=groups)
    both = ~(np.isnan(before) | np.isnan(now))
    # Both tests are symmetric, so half of the two-sided p-value is the one-sided one on the side that was observed.
    p_worse = pair.p_value / 2.0 if pair.difference < 0.0 else 1.0 - pair.p_value / 2.0
    worse = p_worse <= rule.alpha if rule.margin == 0.0 else pair.high < -rule.margin
    return Decision(
        passed=not (worse and pair.n > 0),
        before=float(before[both].mean()) if pair.n else math.nan,
        now=float(now[both].mean()) if pair.n else math.nan,
        difference=pair.difference,
        low=pair.low,
        high=pair.high,
        p_worse=p_worse,
        n=pair.n,
        visible=_visible((pair.high - pair.low) / 2.0, pair.n, rule),
        rule=rule,
    )


def _visible(reach: float, n: int, rule: Rule) -> float | None:
    """The drop d = (z_alpha + z_power) sqrt(v + d / n), where v is the variance of the mean difference as measured.

    A drop brings variance of its own: at most that of inputs that were all right and are all wrong, d / n.
    """
    if n == 0:
        return None
    quantile = normal_isf(rule.alpha)
    squared = (quantile + normal_isf(1.0 - _POWER)) ** 2
    variance = (reach / quantile) ** 2
    drop = (squared / n + math.sqrt((squared / n) ** 2 + 4.0 * squared * variance)) / 2.0
    return drop if drop < 1.0 else None


def explain(decision: Decision, candidate: str) -> str:
    """The decision in two sentences: what was measured, and what follows."""
    level = f"{100.0 * (1.0 - 2.0 * decision.rule.alpha):.3g} %"
    measured = (
        f"{candidate} scored {decision.before:.3f} before and scores {decision.now:.3f} now on the same "
        f"{counted(decision.n, 'sample')}: {_points(decision.difference)} points ({level} interval "
        f"{_points(decision.low)} to {_points(decision.high)})."
    )
    allowed = f" by more than {counted(100.0 * decision.rule.margin, 'point', 'g')}" if decision.rule.margin else ""
    if not decision.passed:
        return f"{measured} It is worse than before{allowed} (p = {decision.p_worse:.2g}, one-sided)."
    if decision.visible is None:
        return f"{measured} No drop{allowed} is proved; so few samples would show none but a huge one."
    seen = 100.0 * (decision.rule.margin + decision.visible)
    return f"{measured} No drop{allowed} is proved; one of {seen:.1f} points would have been seen in 8 of 10 cases."


def _points(difference: float) -> str:
    return f"{100.0 * difference:+.1f}"


@dataclass(frozen=True, slots=True)
class Mark:
    """Whether a comparison reaches a mark."""

    passed: bool
    sentence: str


def check_mark(mark: float) -> None:
    """Raise InputError for a mark that no score can have; to be asked before anything is spent."""
    if not 0.0 < mark <= 1.0:
        remedy = f"Write {mark / 100:g}." if 1.0 < mark <= 100.0 else "Write 0.8, for instance."
        raise InputError(Problem("--fail-under", f"is {mark:g}, but scores lie between 0 and 1.", remedy))


def fail_under(report: Mapping[str, Any], mark: float) -> Mark:
    """Whether the best measured mean score of a comparison reaches `mark`, as `--fail-under` of coverage tools does.

    It is the figure of the table that counts, not its interval: a tripwire. Proof that a target is met is what
    `goal.target` and the status `certified` are for. Candidates that failed too often do not count.

    Raises:
        InputError: the mark is no score.
    """
    check_mark(mark)
    scored = [one for one in report["candidates"] if one["status"] != "failed" and one["mean_score"] is not None]
    if not scored:
        return Mark(False, f"No candidate was scored, so none reaches {mark:g}.")
    best = max(scored, key=lambda one: float(one["mean_score"]))
    value, score = float(best["mean_score"]), best["score"]
    interval = f" ({score['low']:.3f} to {score['high']:.3f})" if score else ""
    told = f"{best['id']} scores {value:.3f}{interval} on {counted(best['n'], 'sample')}"
    if value >= mark:
        return Mark(True, f"{told}: at least {mark:g}.")
    return Mark(False, f"{told}, the most of all, which is below {mark:g}.")
