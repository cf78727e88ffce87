"""Requests that wait for each other and go to a provider in one cheaper batch, instead of one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Where a batch is, for a progress display."""

    model: str
    requests: int
    done: int
    """Requests of it that are answered or failed."""
    status: str
    """As the provider calls it: validating, in_progress, finalizing, ..."""


@dataclass(frozen=True, slots=True)
class Batching:
    """That billed requests are to go in batches where the endpoint has them, and where these are remembered."""

    folder: Path
    """The journal: what was sent, so that a batch outlives the process that sent it."""
    observe: Callable[[BatchProgress], None] = lambda progress: None
    """Told whenever a batch moves."""
    quiet_seconds: float = 1.0
    """A batch is sent when no request arrived for so long: all that can be asked now have been asked."""
    look_seconds: tuple[float, float] = (1.0, 30.0)
    """Seconds between two looks at a batch: at first, and at most."""
