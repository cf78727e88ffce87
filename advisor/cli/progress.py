"""What a run shows while it goes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from advisor.cli.tables import short_names, status_text
from advisor.engine import ignore
from advisor.events import (
    Choosing,
    Diagnosing,
    Escalating,
    Evaluated,
    Event,
    Fitting,
    Observer,
    Piloting,
    Planned,
    Stands,
    Tuning,
)
from advisor.ladder import Standing
from evals.trial import ASIDE, FITTING, Trial


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
        self._epoch = -1

    def observe(self, event: Event) -> None:
        """Print the event if it is worth a line."""
        line = self._line(event)
        if line is not None:
            self._console.print(Text(line), soft_wrap=True)

    def _line(self, event: Event) -> str | None:
        match event:
            case Planned(run_id, candidates, samples, resumed):
                verb = "resumed" if resumed else "begun"
                return f"run {run_id} {verb}: {len(candidates)} candidates, at most {samples} test samples each"
            case Fitting(candidate, dev):
                return f"{candidate}: fitting, then {dev} dev samples"
            case Choosing(candidate, what, done, total) if done == total:
                return f"{candidate}: {what} {done}/{total}"
            case Diagnosing(candidate, what, samples):
                return f"{candidate}: why it fell short: {what}, {samples} failures"
            case Stands(candidate, standing):
                return f"{candidate}: {standing.status} {_measured(standing)}"
            case Escalating(candidate, reason):
                return f"{candidate}: escalating. {reason}"
            case Piloting(candidate, fraction):
                self._epoch = -1
                return f"{candidate}: pilot on {fraction:.0%} of the train samples"
            case Tuning(candidate, progress) if progress.step * 10 // progress.steps > self._epoch:
                self._epoch = progress.step * 10 // progress.steps
                left = "" if progress.seconds_left is None else f", {_duration(progress.seconds_left)} left"
                return f"{candidate}: step {progress.step} of {progress.steps}{left}"
        return None


def _measured(standing: Standing) -> str:
    if standing.interval is None:
        return f"n={standing.n}"
    interval = standing.interval
    return f"n={standing.n} score {interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@dataclass
class _Line:
    status: str = "waiting"
    dev: int = 0
    test: int = 0
    right: float = 0.0
    errors: int = 0
    usd: float | None = 0.0
    standing: Standing | None = None


@dataclass
class _Stage:
    text: str = "starting"
    done: int = 0
    total: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds_left: float | None = None

    def moved(self, text: str, done: int, total: int) -> _Stage:
        """The same stage further on, or a new one."""
        if self.text != text or self.total != total:
            return _Stage(text, done, total)
        self.done = done
        return self

    def left(self) -> float | None:
        if self.seconds_left is not None or not self.done or not self.total:
            return self.seconds_left
        return (time.monotonic() - self.began) / self.done * max(0, self.total - self.done)


class LiveTable:
    """A table that is drawn again several times a second; `observe` only takes notes."""

    def __init__(self) -> None:
        self._samples = self._dev = 0
        self._lines: dict[str, _Line] = {}
        self._stage = _Stage()

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Planned(_, candidates, samples, _):
                self._samples = samples
                self._lines = {candidate: _Line() for candidate in candidates}
            case Evaluated(trial) if trial.variant.startswith(ASIDE):
                self._aside(trial)
            case Evaluated(trial):
                self._evaluated(trial)
            case Stands(candidate, standing):
                line = self._line(candidate)
                line.standing, line.status = standing, standing.status.replace("_", " ")
                if standing.status != "running":
                    self._stage = _Stage(f"{candidate} is {line.status}")
            case _:
                self._moved(event)

    def _moved(self, event: Event) -> None:
        """A candidate is at another piece of work."""
        match event:
            case Fitting(candidate, dev):
                self._line(candidate).status = "fitting"
                self._dev = dev
                self._stage = _Stage(f"fitting {candidate}, then dev samples", total=dev)
            case Choosing(candidate, what, done, total):
                self._line(candidate).status = "fitting"
                self._stage = self._stage.moved(f"{candidate}: {what}", done, total)
            case Diagnosing(candidate, what, samples):
                self._stage = _Stage(f"why {candidate} fell short: {what}", total=samples)
            case Escalating(candidate, _) | Piloting(candidate, _):
                self._line(candidate).status = "tuning"
            case Tuning(candidate, progress):
                self._line(candidate).status = "training"
                self._stage = _Stage(
                    f"training {candidate}", progress.step, progress.steps, seconds_left=progress.seconds_left
                )

    def _line(self, candidate: str) -> _Line:
        return self._lines.setdefault(candidate, _Line())

    def _aside(self, trial: Trial) -> None:
        """A trial that no figure of the table rests on: a choice tried while fitting, an ablation."""
        if trial.variant.startswith(FITTING):
            self._line(trial.candidate).status = "fitting"
            text = f"fitting {trial.candidate}: {trial.variant.removeprefix(FITTING)}"
            if self._stage.text != text:
                self._stage = _Stage(text)
        self._stage.done += 1

    def _evaluated(self, trial: Trial) -> None:
        candidate = trial.candidate
        line = self._line(candidate)
        if trial.split == "dev":
            line.dev += 1
            if self._stage.text.startswith(("fitting", "training")) and line.dev == 1:
                line.status = "on dev"
                self._stage = _Stage(f"{candidate} on dev samples", total=self._dev)
        else:
            line.test += 1
            line.right += trial.score.value if trial.score else 0.0
            line.errors += trial.error is not None
            if not self._stage.text.startswith(f"testing {candidate}"):
                self._stage = _Stage(f"testing {candidate}, at most", total=self._samples)
        known = line.usd is not None and trial.usage.cost_usd is not None
        line.usd = (line.usd or 0.0) + (trial.usage.cost_usd or 0.0) if known else None
        self._stage.done += 1

    def __rich__(self) -> RenderableType:
        """The table as it stands now."""
        table = Table(box=None, pad_edge=False)
        for head in ("candidate", "status", "dev", "test", "score", "interval", "$"):
            table.add_column(head, justify="left" if head in {"candidate", "status"} else "right", overflow="fold")
        names = short_names(self._lines)
        for name, line in self._lines.items():
            table.add_row(Text(names[name]), status_text(line.status), str(line.dev), *self._cells(line))
        stage = self._stage
        left = stage.left()
        time_left = "" if left is None else f" {_duration(left)} left"
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(1, stage.total), completed=stage.done, width=20),
            Text(f"{stage.text} {stage.done}{f'/{stage.total}' if stage.total else ''}{time_left}"),
        )
        return Group(table, bar)

    def _cells(self, line: _Line) -> tuple[str, str, str, str]:
        interval = line.standing.interval if line.standing else None
        scored = line.test - line.errors
        return (
            f"{line.test}/{self._samples}",
            f"{line.right / scored:.3f}" if scored else "-",
            "-" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}",
            "?" if line.usd is None else f"{line.usd:.4f}",
        )
