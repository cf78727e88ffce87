"""What a workspace remembers: its runs and their reports."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.goal import Goal
from advisor.report.files import read_report, write_report
from advisor.report.html.evidence import gather
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, Scenario
from advisor.workspace import Workspace
from backends.errors import AdvisorError, InputError, Problem
from evals.cache import store_path
from evals.store import RunRow, Store


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
        found = store.runs()
    alive = Workspace(workspace).is_locked()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for head in ("kind", "scenario", "status", "verdict", "pick", "s"):
        table.add_column(head, overflow="fold")
    for row in found:
        # A run that says it goes on while nobody holds the workspace was killed.
        status = "interrupted" if row.status == "running" and not alive else row.status
        cells = (row.id, row.kind, row.scenario, status, row.verdict or "-", row.pick or "-", f"{row.seconds:.0f}")
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    return [asdict(row) for row in found]


def rewrite_report(workspace: Path, run_id: str) -> tuple[dict[str, Any], Path]:
    """Read the report object of a run and write its other forms again."""
    place = Workspace(workspace)
    with _open(workspace) as store:
        row = store.run(run_id)
        report = read_report(place, row.id)
        evidence = gather(store, row.id, Goal(**report["goal"]), _as_it_was(row, place.run_folder(row.id)))
        return report, write_report(place, report, evidence)


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
