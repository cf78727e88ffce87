"""What the test split can tell apart, said before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass

from advisor.candidates import Lineup
from advisor.contender import rules_for
from advisor.scenario.model import Scenario
from backends.errors import Problem
from backends.wording import counted
from evals.statistics.power import required_samples, resolvable_margin

POWER = 0.9


@dataclass(frozen=True, slots=True)
class Resolution:
    """Which margin these samples resolve, and how many samples the asked margin needs, at 90 % power."""

    samples: int
    asked: float
    margin: float | None
    """Smallest margin above the target that is certified with this power; None when not even perfect scores are."""
    needed: int | None
    """Samples for the asked margin; None above a million."""

    @property
    def suffices(self) -> bool:
        """Whether the test split is large enough for the asked margin."""
        return self.margin is not None and self.margin <= self.asked

    def __str__(self) -> str:
        told = (
            "cannot certify even a perfect candidate"
            if self.margin is None
            else f"certify a candidate {100 * self.margin:.1f} points above the target in 9 of 10 runs"
        )
        text = f"{counted(self.samples, 'test sample')} {told}"
        if self.suffices:
            return f"{text}."
        needed = "more than a million" if self.needed is None else f"about {self.needed}"
        return f"{text}; the margin of {counted(100 * self.asked, 'point', 'g')} needs {needed}."


def resolution(scenario: Scenario, lineup: Lineup) -> Resolution:
    """Resolution of a scenario's test split, with alpha shared over its candidates.

    Exact for 0/1 scores of independent samples; graded scores vary less and clusters more, so it is a guide there.
    """
    goal, n = scenario.goal, len(scenario.task.test)
    alpha = goal.alpha / _family(lineup)
    return Resolution(
        samples=n,
        asked=goal.margin,
        margin=resolvable_margin(n, goal.target, alpha, POWER),
        needed=required_samples(goal.target, goal.margin, alpha, POWER),
    )


def unprovable(scenario: Scenario, lineup: Lineup) -> Problem | None:
    """What keeps a climb from certifying anybody, however right the answers are; None where nothing does."""
    goal, samples, family = scenario.goal, scenario.task.test, _family(lineup)
    groups = [sample.group for sample in samples]
    rules = rules_for(goal, len(samples), goal.alpha / family, binary=scenario.scorer.binary, groups=groups)
    if rules.unprovable is None:
        return None
    return Problem(
        str(scenario.file),
        f"{rules.unprovable} for {counted(family, 'candidate')}.",
        "Add test samples or leave out --limit, name fewer candidates (--models, --techniques) or lower goal.target; "
        "`advisor compare` measures them all the same.",
    )


def _family(lineup: Lineup) -> int:
    """Candidates that share alpha."""
    return max(1, len(lineup.prompting) + len(lineup.tuning))
