"""What the test split can tell apart, said before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass

from advisor.candidates import Lineup
from advisor.scenario.model import Scenario
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
    alpha = goal.alpha / max(1, len(lineup.prompting) + len(lineup.tuning))
    return Resolution(
        samples=n,
        asked=goal.margin,
        margin=resolvable_margin(n, goal.target, alpha, POWER),
        needed=required_samples(goal.target, goal.margin, alpha, POWER),
    )
