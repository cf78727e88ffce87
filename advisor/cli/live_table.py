"""The table that a terminal shows while a run goes: where each candidate stands, and what is under way.

A thread of the display draws while the run goes on and `observe` is called: what drawing needs twice it reads once, and
what it goes through it copies first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from advisor.cli.names import short_names
from advisor.cli.tables import status_text
from advisor.events import (
    Choosing,
    Diagnosing,
    Escalating,
    Evaluated,
    Event,
    Fitting,
    Piloting,
    Planned,
    Stands,
    Tuning,
    Waiting,
)
from advisor.ladder import Standing
from evals.trial import ASIDE, FITTING, Trial


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
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
        done = self.done
        if self.seconds_left is not None or not done or not self.total:
            return self.seconds_left
        return (time.monotonic() - self.began) / done * max(0, self.total - done)


class _Pace:
    """Answers and tokens of the last half minute; what the cache answered says nothing about speed."""

    _WINDOW_SECONDS = 30.0

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int, int]] = deque()

    def add(self, trial: Trial) -> None:
        """Count a trial that was just answered."""
        asked = trial.usage.requests - trial.cached_requests
        if asked > 0:
            tokens = trial.usage.input_tokens + trial.usage.output_tokens
            self._recent.append((time.monotonic(), asked, tokens))

    def rate(self) -> str:
        """Requests and tokens a second; empty while too little is known."""
        now = time.monotonic()
        while self._recent and now - self._recent[0][0] > self._WINDOW_SECONDS:
            self._recent.popleft()
        recent = list(self._recent)
        if len(recent) < 2 or now - recent[0][0] < 1:
            return ""
        seconds = now - recent[0][0]
        requests, tokens = (sum(row[i] for row in recent) / seconds for i in (1, 2))
        return f"{requests:.1f} requests/s, {tokens:,.0f} tokens/s"


class LiveTable:
    """A table that is drawn again several times a second; `observe` only takes notes."""

    def __init__(self) -> None:
        self._samples = self._dev = 0
        self._target: float | None = None
        self._pace = _Pace()
        self._lines: dict[str, _Line] = {}
        self._stage = _Stage()
        self._began = time.monotonic()

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Evaluated):
            self._pace.add(event.trial)
        match event:
            case Planned(_, candidates, samples, _, target):
                self._samples, self._target = samples, target
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
            case Waiting(batch):
                what = f"waiting for a batch to {batch.model}, {batch.status.replace('_', ' ')}"
                self._stage = self._stage.moved(what, batch.done, batch.requests)
            case Tuning(candidate, progress):
                self._line(candidate).status = "training"
                text = f"training {candidate}{f': {progress.phase}' if progress.phase else ''}"
                self._stage = self._stage.moved(text, progress.step, progress.steps)
                self._stage.seconds_left = progress.seconds_left

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
        lines = dict(self._lines)
        names = short_names(lines)
        for name, line in lines.items():
            table.add_row(Text(names[name]), status_text(line.status), str(line.dev), *self._cells(line))
        stage = self._stage
        left = stage.left()
        time_left = "" if left is None else f" {duration(left)} left"
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(1, stage.total), completed=stage.done, width=20),
            Text(f"{stage.text} {stage.done}{f'/{stage.total}' if stage.total else ''}{time_left}"),
        )
        return Group(table, bar, Text(self._sums(list(lines.values())), style="dim"))

    def _sums(self, lines: Sequence[_Line]) -> str:
        """The target, what was spent on trials, how fast answers come and how long it has taken."""
        known = [line.usd for line in lines if line.usd is not None]
        dollars = f"${sum(known):.4f}" if len(known) == len(lines) else "cost unknown"
        parts = ["" if self._target is None else f"target {self._target:g}", dollars, self._pace.rate()]
        parts.append(duration(time.monotonic() - self._began))
        return " · ".join(part for part in parts if part)

    def _cells(self, line: _Line) -> tuple[str, str, str, str]:
        interval = line.standing.interval if line.standing else None
        scored = line.test - line.errors
        return (
            f"{line.test}/{self._samples}",
            f"{line.right / scored:.3f}" if scored else "-",
            "-" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}",
            "?" if line.usd is None else f"{line.usd:.4f}",
        )
