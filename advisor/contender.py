"""One candidate on the ladder: what was observed of it and what its tests say so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log

import numpy as np

from advisor.goal import Goal
from advisor.standing import Arm, ArmStatus, Batch, Observation, Standing
from backends.wording import agreeing, counted
from evals.statistics.boundaries import alternative_of
from evals.statistics.limits import QUANTILE, DollarLimit, SecondsLimit, seconds_limit
from evals.statistics.power import required_samples
from evals.statistics.sequential import make_test
from evals.statistics.types import Interval, SequentialTest, Status
from evals.statistics.value import expected_shortfall

POWER = 0.8
"""With which a candidate's samples needed are quoted."""
SETTINGS = {"strict": (0.0, 0.05, 0.005), "tolerant": (0.01, 0.05, 0.005), "careful": (0.0, 0.01, 0.0)}
"""Mode -> (how far below the target is still certified, beta, gamma)."""

STOPS: dict[Status, ArmStatus] = {
    Status.ELIMINATED: "eliminated",
    Status.HOPELESS: "hopeless",
    Status.UNRESOLVED: "unresolved",
}
"""Ends that any one test brings about for all, the firmest first."""


@dataclass(frozen=True)
class Rules:
    """The tests every arm of one ladder goes through; immutable, shared by all arms."""

    n: int
    target: float
    """Certified against; below the goal's target in tolerant mode."""
    alternative: float
    """Target plus margin."""
    alpha: float
    """Level of each arm."""
    binary: bool
    quality: SequentialTest
    seconds: SecondsLimit | None
    dollars: DollarLimit | None
    errors_allowed: int
    error_rate_allowed: float

    @property
    def unprovable(self) -> str | None:
        """Why not even perfect answers would be certified, None where they would."""
        if self.quality.attainable:
            return None
        least = ceil(log(self.alpha) / log(self.target))
        text = f"{counted(self.n, 'test sample')} cannot prove {self.target:g} at this confidence"
        return f"{text}, even with every answer right; at least {least} {agreeing(least, 'is', 'are')} needed"


def rules_for(goal: Goal, n: int, alpha: float, *, binary: bool, groups: Sequence[str | None] | None) -> Rules:
    """Turn a goal into tests at level alpha an arm; beta is split over as many tests as the goal has limits."""
    slack, beta, gamma = SETTINGS[goal.mode]
    beta /= 1 + (goal.max_p95_seconds is not None) + (goal.max_usd_per_1k_requests is not None)
    target = goal.target - slack
    quality = make_test(n, target, goal.margin + slack, alpha, beta=beta, gamma=gamma, binary=binary, groups=groups)
    alternative = alternative_of(target, goal.margin + slack)
    seconds = dollars = None
    if goal.max_p95_seconds is not None:
        seconds = seconds_limit(goal.max_p95_seconds, n, alpha, beta=beta, gamma=gamma, groups=groups)
    if goal.max_usd_per_1k_requests is not None:
        dollars = DollarLimit(goal.max_usd_per_1k_requests, quality.looks, alpha, beta)
    allowed = floor(goal.max_error_rate * n + 1e-9)
    return Rules(n, target, alternative, alpha, binary, quality, seconds, dollars, allowed, goal.max_error_rate)


class Contender:
    """The state of one arm; changes only in `record`."""

    def __init__(self, arm: Arm, rules: Rules) -> None:
        self.arm = arm
        self.rules = rules
        self.n = 0
        self.errors = 0
        self._total = 0.0
        self.status: ArmStatus = "waiting"
        self.blocker = ""
        """What the status is about when it is not quality."""
        self._scores = np.empty(rules.n)
        self._seconds = np.empty(rules.n if rules.seconds else 0)
        self._costs = np.empty(rules.n if rules.dollars else 0)
        self._look = 0
        self._quality = (Status.CONTINUE, 0)
        """The quality test's status and the sample count it was reached at; it stops for good once certified."""
        self._fast = self._cheap = Status.CONTINUE
        if not rules.quality.attainable:
            self.status = "hopeless"

    @property
    def settled(self) -> bool:
        """Whether the arm's tests have come to an end."""
        return self.status not in ("waiting", "running")

    @property
    def batch(self) -> Batch:
        """What is to be tried next."""
        return Batch(self.arm.id, self.n, self.rules.quality.looks[self._look])

    def record(self, observations: Sequence[Observation]) -> None:
        """Take in the observations of exactly `batch` and decide.

        Raises:
            ValueError: another number of observations, a score outside [0, 1], or one between 0 and 1 in a 0/1 task.
        """
        batch = self.batch
        if len(observations) != batch.stop - batch.start:
            raise ValueError(
                f"{self.arm.id!r} was asked for samples {batch.start} to {batch.stop}, "
                f"but {len(observations)} observations came: record one per sample of the batch"
            )
        new = np.array([np.nan if o.score is None else o.score for o in observations])
        missing = np.isnan(new)
        valid = missing | ((new == 0.0) | (new == 1.0) if self.rules.binary else (new >= 0.0) & (new <= 1.0))
        if not valid.all():
            kind = "0 or 1" if self.rules.binary else "in [0, 1]"
            raise ValueError(f"a score of {self.arm.id!r} is {new[~valid][0]!r}, but scores here are {kind}")
        window = slice(batch.start, batch.stop)
        self._scores[window] = new
        if self.rules.seconds:
            self._seconds[window] = [o.seconds for o in observations]
        if self.rules.dollars:
            self._costs[window] = [np.nan if o.cost_usd is None else o.cost_usd for o in observations]
        failed = int(missing.sum())
        self.errors += failed
        self._total += float(new[~missing].sum() if failed else new.sum())
        self.n = batch.stop
        self._look += 1
        self.status = self._decide()

    def _decide(self) -> ArmStatus:
        if self.errors > self.rules.errors_allowed:
            return "failed"
        self.blocker = ""
        statuses = {"": self._quality_status(), "seconds": self._fast_status(), "dollars": self._cheap_status()}
        for stop, word in STOPS.items():
            for name, status in statuses.items():
                if status is stop:
                    self.blocker = name
                    return word
        if all(status is Status.CERTIFIED for status in statuses.values()):
            if self.errors <= self.rules.error_rate_allowed * self.n + 1e-9:
                return "certified"
            self.blocker = "errors"
        return "running"

    def _quality_status(self) -> Status:
        if self._quality[0] is not Status.CERTIFIED:
            self._quality = (self.rules.quality.decide(self._scores[: self.n]), self.n)
        return self._quality[0]

    def _fast_status(self) -> Status:
        limit = self.rules.seconds
        if limit is None:
            return Status.CERTIFIED
        if not (limit.provable and self._fast is Status.CERTIFIED):
            self._fast = limit.decide(self._seconds[: self.n])
        return self._fast

    def _cheap_status(self) -> Status:
        limit = self.rules.dollars
        if limit is None:
            return Status.CERTIFIED
        if self._cheap is not Status.CERTIFIED:
            costs = self._costs[: self.n]
            self._cheap = Status.HOPELESS if np.isnan(costs).any() else limit.decide(costs)
        return self._cheap

    def progress(self) -> Standing:
        """The standing of an arm that goes on, without its interval."""
        return Standing(
            self.arm.id, "running", self.n, self.errors, self.mean, None, None, None, None, self._explain_running()
        )

    def standing(self, status: ArmStatus, reason: str) -> Standing:
        """The arm's standing; the ladder may overrule the status (not needed, skipped) and gives the reason."""
        interval = at_least = needed = shortfall = None
        if self.n:
            interval = self.interval()
            if status == "certified":
                at_least = self.at_least()
            if status in ("hopeless", "unresolved") and not self.blocker:
                shortfall = expected_shortfall(self.mean or 0.0, self.n, self.rules.target)
                gain = round(interval.value - self.rules.target, 3)
                needed = required_samples(self.rules.target, gain, self.rules.alpha, POWER)
        return Standing(
            self.arm.id, status, self.n, self.errors, self.mean, interval, at_least, needed, shortfall, reason
        )

    @property
    def mean(self) -> float | None:
        """Mean of the scores there are; None without any."""
        scored = self.n - self.errors
        return self._total / scored if scored else None

    def interval(self) -> Interval:
        """The simultaneous interval of the score, valid after stopping or at any look."""
        status, at = self._quality
        # An arm can fail by its errors before its score was looked at.
        return self.rules.quality.interval(self._scores[: at or self.n], status)

    def at_least(self) -> float:
        """One-sided lower bound of the score at the arm's level."""
        status, at = self._quality
        return self.rules.quality.lower_bound(self._scores[:at], status)

    def explain(self) -> str:
        """One sentence on why the arm has its status."""
        return {
            "waiting": lambda: "Not tried yet.",
            "running": self._explain_running,
            "certified": self._explain_certified,
            "eliminated": self._explain_eliminated,
            "hopeless": self._explain_hopeless,
            "unresolved": self._explain_unresolved,
            "failed": self._explain_failed,
        }[self.status]()

    def _explain_running(self) -> str:
        if self.blocker == "errors":
            return f"{self.errors} of {counted(self.n, 'trial')} failed; more must succeed before it can be certified."
        return f"{self.n} of {counted(self.rules.n, 'sample')} tried."

    def _explain_certified(self) -> str:
        text = f"Scores at least {self.at_least():.3f}, proved on {counted(self._quality[1], 'sample')}"
        limit = self.rules.seconds
        if limit is not None and not limit.provable:
            text += f"; {counted(self.n, 'sample')} cannot prove a p95, which was {self._p95():.3g} s as measured"
        return f"{text} (target {self.rules.target:g})."

    def _explain_eliminated(self) -> str:
        if self.blocker:
            return f"It is over a limit: {self._limit()}, on {counted(self.n, 'sample')}."
        lacking = 100.0 * (self.rules.target - self.interval().high)
        more = f"; it would need at least {lacking:.1f} points more" if lacking > 0.0 else ""
        return f"Falls short of {self.rules.alternative:g}, target plus margin: {self._measured()}{more}."

    def _explain_hopeless(self) -> str:
        if not self.n:
            return f"{self.rules.unprovable}."
        if self.blocker:
            return f"It can hardly be proved to keep a limit with the samples left: {self._limit()}."
        left = counted(self.rules.n - self.n, "sample")
        return f"The {left} left can hardly prove {self.rules.target:g} any more: {self._measured()}."

    def _explain_unresolved(self) -> str:
        if self.blocker:
            return f"All {self.n} samples are used and cannot prove that it keeps a limit: {self._limit()}."
        low, high = self.interval().low, self.interval().high
        text = f"All {self.n} samples are used and leave {low:.3f} to {high:.3f} open"
        return f"{text} (target {self.rules.target:g})."

    def _explain_failed(self) -> str:
        text = f"{self.errors} of {counted(self.n, 'trial')} failed; at most {self.rules.errors_allowed}"
        return f"{text} of {self.rules.n} may ({100.0 * self.rules.error_rate_allowed:g} %)."

    def _measured(self) -> str:
        return f"scores {self.mean or 0.0:.3f} on {counted(self.n, 'sample')}"

    def _limit(self) -> str:
        if self.blocker == "seconds" and self.rules.seconds is not None:
            return f"p95 {self._p95():.3g} s, allowed {self.rules.seconds.limit:g} s"
        limit = self.rules.dollars.limit if self.rules.dollars is not None else 0.0
        costs = self._costs[: self.n]
        if np.isnan(costs).any():
            return f"its price is not known, allowed ${limit:g} per 1,000 requests"
        return f"${1000.0 * costs.mean():.3g} per 1,000 requests, allowed ${limit:g}"

    def _p95(self) -> float:
        return float(np.quantile(self._seconds[: self.n], QUANTILE, method="inverted_cdf"))
