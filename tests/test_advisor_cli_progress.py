"""The live table follows the events of a run, at 80 columns."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from rich.console import Console

from advisor.cli.live_table import LiveTable
from advisor.cli.progress import PlainLines
from advisor.events import Escalating, Evaluated, Fitting, Piloting, Planned, Stands, Tuning, Waiting
from advisor.standing import Standing
from backends.batching import BatchProgress
from backends.types import TuneProgress, Usage
from evals.statistics.types import Interval
from evals.trial import Score, Trial

NAME = "few_shot@local/smollm2-135m"
TUNED = "fine_tune@local/smollm2-135m"


def trial(split: str, value: float = 1.0, cost: float | None = 0.001) -> Trial:
    return Trial(NAME, split, f"{split}{value}", "x", Score(value), None, Usage(1, 5, 0, 1, cost), 0.1)  # type: ignore[arg-type]


def shown(table: LiveTable) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    with console.file:
        console.print(table)
        return console.export_text()


def standing(status: str) -> Standing:
    interval = Interval(0.48, 0.2, 0.8, "test")  # corrected for having stopped; the mean is what tables show
    return Standing(NAME, status, 20, 0, 0.5, interval, None, None, None, "because")  # type: ignore[arg-type]


def test_the_table_follows_a_candidate_from_fitting_to_its_end() -> None:
    table = LiveTable()
    table.observe(Planned("r1", (NAME, "zero_shot@local/smollm2-135m"), 300, False))
    assert "waiting" in shown(table)
    table.observe(Fitting(NAME, 50))
    assert "fitting" in shown(table)
    table.observe(Evaluated(trial("dev")))
    assert "on dev samples 1/50" in " ".join(shown(table).split())
    for value in (1.0, 0.0):
        table.observe(Evaluated(trial("test", value)))
    text = " ".join(shown(table).split())
    assert "2/300 0.500" in text
    assert "0.0030" in text
    table.observe(Stands(NAME, standing("eliminated")))
    text = " ".join(shown(table).split())
    assert "eliminated" in text
    assert "0.20 to 0.80" in text


def test_training_shows_steps_and_the_time_left() -> None:
    table = LiveTable()
    table.observe(Planned("r1", (NAME,), 300, False))
    table.observe(Escalating(TUNED, "nothing sufficed"))
    table.observe(Tuning(TUNED, TuneProgress(19, 190, 0.5, 75.4)))
    text = " ".join(shown(table).split())
    assert "19/190 1 min 15 s left" in text
    assert "training" in text


def test_below_the_table_stand_target_dollars_and_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("advisor.cli.live_table.time.monotonic", lambda: clock[0])
    table = LiveTable()
    table.observe(Planned("r1", (NAME,), 300, False, 0.8))
    for value in (1.0, 0.0):
        table.observe(Evaluated(trial("test", value)))
        clock[0] += 1.0
    assert "target 0.8 · $0.0020 · 1.0 requests/s, 6 tokens/s · 2 s" in shown(table)
    clock[0] += 60.0
    assert "requests/s" not in shown(table)


def test_a_run_goes_on_while_the_table_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    # A thread draws. What happens meanwhile happens here at the worst moments: in the midst of a sum and of a row.
    table = LiveTable()
    table.observe(Planned("r1", (NAME,), 300, False))

    class Requests(int):
        def __sub__(self, other: int) -> Requests:
            return self

        def __radd__(self, other: int) -> int:
            table.observe(Evaluated(trial("test")))
            return other + int(self)

    class Running:
        status = "running"

        @property
        def interval(self) -> None:
            table.observe(Fitting(TUNED, 20))

    for _ in range(3):
        table.observe(Evaluated(replace(trial("test"), usage=Usage(Requests(1), 5, 0, 1))))
    table.observe(Stands(NAME, Running()))  # type: ignore[arg-type]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 2)
    assert "requests/s" in shown(table)
    assert "fine_tune" in shown(table)


def test_an_unknown_price_is_a_question_mark_and_not_nothing() -> None:
    table = LiveTable()
    table.observe(Planned("r1", (NAME,), 300, False))
    table.observe(Evaluated(trial("test", cost=None)))
    table.observe(Evaluated(trial("test", 0.0)))
    assert "?" in shown(table)


def test_every_line_of_a_log_stands_by_itself() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    lines = PlainLines(console)
    with console.file:
        for event in (Planned("r1", (NAME,), 300, True), Fitting(NAME, 50), Stands(NAME, standing("certified"))):
            lines.observe(event)
        for step in range(1, 191):
            lines.observe(Tuning(TUNED, TuneProgress(step, 190, None, None)))
        text = console.export_text().splitlines()
    assert text[0] == "run r1 resumed: 1 candidate, at most 300 test samples each"
    assert text[2] == f"{NAME}: certified n=20 score 0.500 (0.200 to 0.800)"
    assert len(text) == 3 + 11


def test_every_training_prints_its_steps_also_the_one_after_the_pilots() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    lines = PlainLines(console)

    def train(steps: int) -> None:
        for phase in ("uploading", ""):
            for step in range(1, steps + 1):
                lines.observe(Tuning(TUNED, TuneProgress(step, steps, None, None, phase)))

    with console.file:
        for fraction, steps in ((0.25, 20), (0.5, 40)):
            lines.observe(Piloting(TUNED, fraction))
            train(steps)
        for _ in range(2):  # the full training, and that of a second candidate
            lines.observe(Fitting(TUNED, 50))
            train(80)
        text = console.export_text().splitlines()
    assert sum("of 20" in line for line in text) == sum("of 40" in line for line in text) == 11
    assert sum("of 80" in line for line in text) == 2 * 11
    assert sum(line.endswith("uploading") for line in text) == 4


def test_the_table_tells_the_time_left_of_a_training_that_does_not_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time.monotonic()]
    monkeypatch.setattr("advisor.cli.live_table.time.monotonic", lambda: clock[0])
    table = LiveTable()
    table.observe(Planned("r1", (NAME,), 300, False))
    table.observe(Fitting(TUNED, 50))
    for step in range(5):
        table.observe(Tuning(TUNED, TuneProgress(step, 10, None, None)))
        clock[0] += 10.0
    assert re.search(r"4/10 1 min \d\d s left", " ".join(shown(table).split())), "50 s for 4 steps, 75 s for the rest"


def test_a_batch_that_begins_while_the_time_left_is_reckoned_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    table = LiveTable()
    table.observe(Planned("r1", (NAME,), 300, False))
    table.observe(Waiting(BatchProgress("m", 100, 50, "in_progress")))
    clock = time.monotonic

    def late() -> float:
        table.observe(Waiting(BatchProgress("m", 100, 0, "in_progress")))
        return clock()

    monkeypatch.setattr("advisor.cli.live_table.time.monotonic", late)
    assert "waiting for a batch" in " ".join(shown(table).split())
