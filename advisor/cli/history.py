"""What a workspace remembers: its runs and their reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.commands import Commands, command, renewed
from advisor.goal import Goal
from advisor.report.files import has_report, read_report, write_report
from advisor.report.html.evidence import gather
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, Scenario
from advisor.workspace import Workspace
from backends.errors import AdvisorError, InputError, Problem
from evals.cache import store_path
from evals.naming import REPORTED, Last
from evals.store import RunRow, RunStatus, Store


def _open(workspace: Path) -> Store:
    path = store_path(workspace)
    if not path.is_file():
        raise InputError(
            Problem(
                str(workspace), "there is no workspace here.", "Start one: advisor run SCENARIO, or name --workspace."
            )
        )
    return Store.open(path)


def show_runs(console: Console, workspace: Path) -> list[dict[str, Any]]:
    """Print all runs, oldest first, and return them."""
    with _open(workspace) as store:
        found = [(row, store.billed_usd(row.id)) for row in store.runs()]
    alive = Workspace(workspace).is_locked()
    # A run that says it goes on while nobody holds the workspace was killed.
    rows = [(replace(row, status=_status(row, alive)), billed) for row, billed in found]
    if rows:
        console.print(_runs(rows))
        console.print(Text(_hint(rows, workspace), style="dim"), soft_wrap=True)
    else:
        console.print("There are no runs in this workspace yet.")
    return [asdict(row) | {"billed_usd": billed} for row, billed in rows]


def _status(row: RunRow, alive: bool) -> RunStatus:
    return "interrupted" if row.status == "running" and not alive else row.status


def _runs(rows: Sequence[tuple[RunRow, float]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("run", "kind", "scenario", "result"):
        table.add_column(head, no_wrap=head in {"run", "kind"}, overflow="fold")
    for head in ("time", "billed"):
        table.add_column(head, justify="right", no_wrap=True)
    for row, billed in rows:
        result = Text(row.pick or row.verdict or "-") if row.status == "done" else Text(row.status, style="yellow")
        table.add_row(row.id, row.kind, Text(row.scenario), result, _span(row.seconds), f"${billed:.2f}")
    return table


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _hint(rows: Sequence[tuple[RunRow, float]], workspace: Path) -> str:
    """The command for the last run: to go on with it, else to look at it."""
    last = next((row for row, _ in reversed(rows) if row.kind in REPORTED), None)
    if last is None:
        return f"Begin a run: {command('run', 'SCENARIO', workspace=workspace)}"
    if last.status == "running":
        return f"{last.id} goes on at this moment; its report comes at its end."
    commands = Commands(Path(last.scenario_file), last.id, workspace)
    if last.status in {"interrupted", "failed"}:
        return f"Go on with it: {commands.resume(last.kind)}"
    return f"Look at it again: {commands.of_run('report')}"


def rewrite_report(workspace: Path, run_id: str) -> tuple[dict[str, Any], Path]:
    """Read the report object of a run and write its forms again; `last` is the newest that can have one.

    The commands of its next steps become those that work in the current folder.
    """
    place = Workspace(workspace)
    with _open(workspace) as store:
        row = store.run(run_id, Last("run with a report", fits=lambda run: has_report(place, run)))
        report = read_report(place, row)
        commands = Commands(_scenario_from_here(report, row), row.id, workspace)
        report["next_steps"] = [renewed(step, commands) for step in report["next_steps"]]
        evidence = gather(store, row.id, Goal(**report["goal"]), _as_it_was(row, place.run_folder(row.id)))
        return report, write_report(place, report, evidence)


def _scenario_from_here(report: Mapping[str, Any], row: RunRow) -> Path:
    """The scenario as it was named then, where that means the same from the current folder, else where it lies."""
    named, lies = Path(report["scenario"].get("file", row.scenario_file)), Path(row.scenario_file)
    return named if named.resolve() == lies else lies


def _as_it_was(row: RunRow, folder: Path) -> Scenario | None:
    """The scenario of a run, from where it lay or from the run's frozen copy; None when neither is what was run."""
    file = Path(row.scenario_file)
    for path in (file, folder / "scenario" / file.name):
        try:
            scenario = load_scenario(path, _overrides(row))
        except (AdvisorError, OSError):
            continue
        if scenario.hash == row.scenario_hash:
            return scenario
    return None


def _overrides(row: RunRow) -> Overrides:
    known = {one.name for one in fields(Overrides)}
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.options.items() if name in known
    }
    return Overrides(**kept)
