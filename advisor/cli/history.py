"""What a workspace remembers: its runs and their reports."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.report.files import read_report, write_report
from advisor.workspace import Workspace
from backends.errors import InputError, Problem
from evals.cache import store_path
from evals.store import Store


def _open(workspace: Path) -> Store:
    path = store_path(workspace)
    if not path.is_file():
        raise InputError(
            Problem(
                str(workspace), "there is no workspace here.", "Start one: advisor run SCENARIO, or name --workspace."
            )
        )
    return Store.open(path)


def show_runs(console: Console, workspace: Path, json_file: Path | None) -> None:
    """Print all runs, oldest first."""
    with _open(workspace) as store:
        found = store.runs()
    table = Table("run", "begun (UTC)", "kind", "scenario", "status", "verdict", "pick", "s")
    for row in found:
        table.add_row(
            *(Text(cell) for cell in (row.id, row.created[:19], row.kind, row.scenario, row.status)),
            row.verdict or "-",
            Text(row.pick or "-"),
            f"{row.seconds:.0f}",
        )
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in found], indent=2) + "\n", encoding="utf-8")


def rewrite_report(workspace: Path, run_id: str) -> tuple[dict[str, Any], Path]:
    """Read the report object of a run and write its other forms again."""
    with _open(workspace) as store:
        row = store.run(run_id)
    place = Workspace(workspace)
    report = read_report(place, row.id)
    return report, write_report(place, report)
