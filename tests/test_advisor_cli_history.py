"""`advisor runs`: every run with how it ended, what it took and billed, and the command that comes next."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from advisor.cli.history import show_runs
from advisor.workspace import Workspace
from backends.errors import InputError
from evals.cache import store_path
from evals.store import RunRow, Store


def row(number: int, **changes: Any) -> RunRow:
    given: dict[str, Any] = {
        "id": f"20261123-10000{number}-abcd",
        "created": "2026-11-23T10:00:00+00:00",
        "kind": "run",
        "scenario": "helpdesk_routing",
        "scenario_file": "/some where/scenario.yaml",
        "scenario_hash": "0",
        "options": {},
        "seconds": 4000.0,
    }
    return RunRow(**{**given, **changes})


def shown(folder: Path, *rows: RunRow) -> tuple[str, list[dict[str, Any]]]:
    folder.mkdir(exist_ok=True)
    with Store.open(store_path(folder)) as store:
        for one in rows:
            store.add_run(one)
            if one.seconds:
                store.spend_seconds(one.id, one.seconds)
            if one.status != "running":
                store.finish_run(one.id, one.status, one.verdict, one.pick)
    output = io.StringIO()
    rows = show_runs(Console(file=output, width=80), folder)
    return output.getvalue(), rows


def test_a_run_shows_its_pick_its_time_and_what_it_billed(tmp_path: Path) -> None:
    pick = "knn_few_shot(k=8)@local/smollm2-135m"
    text, rows = shown(tmp_path / "w", row(1, status="done", verdict="pick", pick=pick))
    assert "1 h 07 min" in text
    assert "$0.00" in text
    assert "advisor report 20261123-100001-abcd" in text
    *table, _ = text.splitlines()
    assert max(map(len, table)) <= 80
    assert (rows[0]["pick"], rows[0]["billed_usd"], rows[0]["seconds"]) == (pick, 0.0, 4000.0)


def test_a_run_that_was_killed_is_interrupted_and_says_how_to_go_on(tmp_path: Path) -> None:
    text, rows = shown(tmp_path / "w", row(1, status="done", verdict="escalate"), row(2))
    assert rows[1]["status"] == "interrupted"
    assert "escalate" in text
    assert "advisor run '/some where' --resume 20261123-100002-abcd" in text


def test_the_command_names_another_workspace_than_the_default(tmp_path: Path) -> None:
    text, _ = shown(tmp_path / "my w", row(1))
    assert f"--resume 20261123-100001-abcd --workspace '{tmp_path / 'my w'}'" in text


def test_a_gate_is_no_run_to_look_at_or_to_go_on_with(tmp_path: Path) -> None:
    text, _ = shown(tmp_path / "w", row(1, status="done", verdict="pick"), row(2, kind="gate", status="interrupted"))
    assert "advisor report 20261123-100001-abcd" in text
    text, _ = shown(tmp_path / "v", row(1, kind="gate", status="done"))
    assert f"Begin a run: advisor run SCENARIO --workspace {tmp_path / 'v'}" in text


def test_a_run_that_goes_on_has_no_report_yet(tmp_path: Path) -> None:
    with Workspace(tmp_path / "w").locked():
        text, rows = shown(tmp_path / "w", row(1))
    assert rows[0]["status"] == "running"
    assert "20261123-100001-abcd goes on at this moment" in text
    assert "advisor report" not in text


def test_an_empty_workspace_says_so(tmp_path: Path) -> None:
    text, rows = shown(tmp_path / "w")
    assert rows == []
    assert "no runs in this workspace" in text
    with pytest.raises(InputError, match="there is no workspace here"):
        show_runs(Console(), tmp_path / "nowhere")
