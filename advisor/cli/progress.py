"""What a run shows while it goes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from advisor.cli.live_table import LiveTable, duration
from advisor.engine import ignore
from advisor.events import (
    Choosing,
    Diagnosing,
    Escalating,
    Event,
    Fitting,
    Observer,
    Piloting,
    Planned,
    Stands,
    Tuning,
    Waiting,
)
from advisor.ladder import Standing
from backends.batching import BatchProgress
from backends.types import TuneProgress
from backends.wording import counted


@contextmanager
def display(console: Console, quiet: bool) -> Iterator[Observer]:
    """An observer that shows a run; nothing when `quiet`."""
    if quiet:
        yield ignore
    elif console.is_terminal:
        table = LiveTable()
        with Live(table, console=console, refresh_per_second=4, transient=True):
            yield table.observe
    else:
        yield PlainLines(console).observe


class PlainLines:
    """One line for each thing that matters, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase = ""
        self._tenth = -1
        self._batches: dict[tuple[str, int], str] = {}

    def observe(self, event: Event) -> None:
        """Print the event if it is worth a line."""
        if isinstance(event, Fitting | Piloting):
            # The pilots and the full training of one candidate each have steps of their own.
            self._phase, self._tenth = "", -1
        line = self._line(event)
        if line is not None:
            self._console.print(Text(line), soft_wrap=True)

    def _line(self, event: Event) -> str | None:
        match event:
            case Waiting(batch):
                return self._batch(batch)
            case Planned(run_id, candidates, samples, resumed):
                verb = "resumed" if resumed else "begun"
                some, most = counted(len(candidates), "candidate"), counted(samples, "test sample")
                return f"run {run_id} {verb}: {some}, at most {most} each"
            case Fitting(candidate, dev):
                return f"{candidate}: fitting, then {counted(dev, 'dev sample')}"
            case Choosing(candidate, what, done, total) if done == total:
                return f"{candidate}: {what} {done}/{total}"
            case Diagnosing(candidate, what, samples):
                return f"{candidate}: why it fell short: {what}, {counted(samples, 'failure')}"
            case Stands(candidate, standing):
                return f"{candidate}: {standing.status} {_measured(standing)}"
            case Escalating(candidate, reason):
                return f"{candidate}: escalating. {reason}"
            case Piloting(candidate, fraction):
                return f"{candidate}: pilot on {fraction:.0%} of the train samples"
            case Tuning(candidate, progress):
                return self._tuning(candidate, progress)
        return None

    def _batch(self, batch: BatchProgress) -> str | None:
        """A line whenever a batch is at another stage; counts move too often for a log."""
        key = (batch.model, batch.requests)
        if self._batches.get(key) == batch.status:
            return None
        self._batches[key] = batch.status
        return f"{batch.model}: batch of {counted(batch.requests, 'request')} is {batch.status.replace('_', ' ')}"

    def _tuning(self, candidate: str, progress: TuneProgress) -> str | None:
        """Each phase once, and of the steps every tenth part."""
        tenth = progress.step * 10 // progress.steps
        if progress.phase:
            is_new, self._phase = progress.phase != self._phase, progress.phase
            return f"{candidate}: {progress.phase}" if is_new else None
        if tenth <= self._tenth:
            return None
        self._tenth = tenth
        left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
        return f"{candidate}: step {progress.step} of {progress.steps}{left}"


def _measured(standing: Standing) -> str:
    if standing.interval is None or standing.mean is None:
        return f"n={standing.n}"
    interval = standing.interval
    return f"n={standing.n} score {standing.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"
