"""What a run tells about itself while it goes; the terminal shows it, tests collect it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advisor.ladder import Standing
from backends.batching import BatchProgress
from backends.types import TuneProgress
from evals.trial import Trial


@dataclass(frozen=True, slots=True)
class Planned:
    """The run has begun; these candidates will be looked at."""

    run_id: str
    candidates: tuple[str, ...]
    samples: int
    """Test samples at most, per candidate."""
    resumed: bool
    target: float | None = None
    """Mean score that is wanted."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """A candidate is being fitted, then tried on `dev` samples."""

    candidate: str
    dev: int


@dataclass(frozen=True, slots=True)
class Choosing:
    """A candidate tries its own settings: `done` of `total` of what it calls `what`."""

    candidate: str
    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Diagnosing:
    """Why a candidate fell short is looked into: `what` is asked about `samples` of its failures."""

    candidate: str
    what: str
    samples: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A trial is finished and stored."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class Stands:
    """A candidate stands differently on the ladder."""

    candidate: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Escalating:
    """The ladder found nothing; a fine-tuned candidate is on its way."""

    candidate: str
    reason: str


@dataclass(frozen=True, slots=True)
class Piloting:
    """A model is about to be trained on a fraction of the train split, to forecast what the whole will reach."""

    candidate: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """A training step is done."""

    candidate: str
    progress: TuneProgress


@dataclass(frozen=True, slots=True)
class Waiting:
    """A batch of requests is with its provider."""

    batch: BatchProgress


Event = Planned | Fitting | Choosing | Diagnosing | Evaluated | Stands | Escalating | Piloting | Tuning | Waiting
Observer = Callable[[Event], None]
