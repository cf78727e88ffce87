"""The words of the ladder: what it is given, what it asks for, and where a candidate stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evals.statistics.types import Interval

ArmStatus = Literal[
    "waiting",
    "running",
    "certified",
    "eliminated",
    "hopeless",
    "unresolved",
    "not_needed",
    "skipped",
    "failed",
]
Verdict = Literal["pick", "escalate", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What the decision needs to know of one trial."""

    score: float | None
    """In [0, 1]; None when the trial failed."""
    seconds: float
    cost_usd: float | None
    """Production cost of the request; None when the price is not known."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A candidate as the ladder sees it."""

    id: str
    usd_per_1k_requests: float | None
    """Production cost; None when it is not known."""
    reserved: bool = False
    """A fine-tuned candidate, tested with a part of alpha that was set aside for it."""
    dev_score: float | None = None
    """Mean score on dev, for the value gate only; the verdict never sees it."""
    dev_n: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples start to stop, stop excluded, of the shared order, to be tried by one arm."""

    arm: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ValueGate:
    """What makes a test worth its price: how much the answer will be used."""

    requests: float
    """Production requests over the horizon."""
    fallback_usd_per_1k: float | None = None
    """Cost of what would be used instead of an arm; None for the dearest arm on the ladder."""
    least_usd: float = 0.10
    """Tests cheaper than this are always run: dev scores order candidates, and only a test rules one out."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one candidate stands."""

    arm: str
    status: ArmStatus
    n: int
    """Samples tried."""
    errors: int
    """Of these, trials that failed."""
    mean: float | None
    """Raw mean of the scores there are; biased upwards for a candidate that stopped early as certified."""
    interval: Interval | None
    """Estimate and simultaneous interval, valid after stopping; None while the candidate runs or nothing ran."""
    at_least: float | None
    """The certificate in numbers: one-sided lower bound, never below the certified target; None unless certified."""
    samples_needed: int | None
    """Samples with which a candidate as good as this one looks would be certified with probability 0.8.

    None when it looks no better than the target, and for candidates that are not hopeless or unresolved in quality.
    """
    shortfall: float | None
    """Expected score missing per request if a candidate hopeless or unresolved in quality were accepted; else None."""
    reason: str
    """One sentence for people."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an inconclusive climb would take: the arm that lacks least, and what settling or accepting it costs."""

    arm: str
    samples_needed: int | None
    """Samples in all for a new test; None when more samples would not help."""
    extra_samples: int | None
    """Of these, labels that do not exist yet."""
    usd: float | None
    """Dollars for the trials of that test; None when the price or the number of samples is not known."""
    shortfall: float
    """Expected score missing per request if the arm were accepted as it is."""
