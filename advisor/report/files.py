"""Where the report of a run lies, and writing it there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advisor.commands import Commands
from advisor.report.html.evidence import Evidence
from advisor.report.html.page import page
from advisor.report.junit import junit
from advisor.report.markdown import markdown
from advisor.workspace import Workspace
from backends.errors import InputError, Problem
from evals.naming import REPORTED
from evals.store import RunRow


def write_report(workspace: Workspace, report: Mapping[str, Any], evidence: Evidence) -> Path:
    """Write report.json, .md and .html and junit.xml into the run's folder; returns the folder. Raises WorkspaceError.

    The object comes first: whatever happens to the other forms, they can be written again from it.
    """
    folder = workspace.run_folder(report["run_id"])
    workspace.write(folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    workspace.write(folder / "report.md", markdown(report))
    workspace.write(folder / "junit.xml", junit(report))
    workspace.write(folder / "report.html", page(report, evidence))
    return folder


def has_report(workspace: Workspace, run: RunRow) -> bool:
    """Whether there is something to read: a run that goes on or failed may have none."""
    return (workspace.run_folder(run.id) / "report.json").is_file()


def read_report(workspace: Workspace, run: RunRow) -> dict[str, Any]:
    """The report object of a finished run. Raises InputError when it was never written."""
    path = workspace.run_folder(run.id) / "report.json"
    if run.kind not in REPORTED:
        what = f"this is a `{run.kind}`, and has no such report."
        raise InputError(Problem(run.id, what, "Name another run, or `last`; `advisor runs` lists them."))
    resume = Commands(Path(run.scenario_file), run.id, workspace.root).resume(run.kind)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(Problem(str(path), "this run has no report yet.", f"Finish it: {resume}")) from error
    except ValueError as error:
        raise InputError(Problem(str(path), f"the report is damaged: {error}.", f"Write it again: {resume}")) from error
