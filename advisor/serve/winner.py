"""The winner of a run in a folder of its own: the fitted candidate and all that is needed to open it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from advisor.candidates import Candidate
from advisor.scenario.model import Scenario
from advisor.techniques.base import Fitted
from advisor.techniques.registry import load_fitted
from advisor.workspace import Workspace, explained
from backends import registry as backends
from backends.errors import InputError, Problem

FOLDER = "winner"
FILE = "winner.json"
_FITTED = "fitted"


@dataclass(frozen=True, slots=True)
class Winner:
    """What opens a candidate again, apart from the scenario it came from."""

    scenario: str
    candidate: str
    model: str
    """The model it starts from; a tuned candidate answers with another."""
    embedder: str | None
    """None for a candidate that embeds nothing."""
    usd_per_hour: float | None
    """Price of the machine that local models run on."""
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Servers that the scenario describes, by name."""


def keep_winner(workspace: Workspace, run_id: str, scenario: Scenario, candidate: Candidate) -> Path:
    """Copy a fitted candidate of a run into `winner/`; returns that folder. Raises WorkspaceError."""
    folder = workspace.run_folder(run_id) / FOLDER
    embedder = scenario.embedder if candidate.technique.embeds else None
    found = Winner(scenario.name, candidate.id, candidate.model, embedder, scenario.usd_per_hour, scenario.endpoints)
    with explained(workspace.root):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(workspace.fitted_folder(run_id, candidate.id), folder / _FITTED)
    # Last: its presence means that all else is there.
    workspace.write(folder / FILE, json.dumps(asdict(found), indent=1, ensure_ascii=False))
    return folder


def read_winner(workspace: Workspace, run_id: str) -> tuple[Winner, Fitted]:
    """The winner of a run and its fitted technique, its endpoints made known. Raises InputError without a pick."""
    folder = workspace.run_folder(run_id) / FOLDER
    try:
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        winner = Winner(**record)
        backends.declare_endpoints(winner.endpoints, str(folder / FILE))
        return winner, load_fitted(folder / _FITTED)
    except FileNotFoundError as error:
        raise InputError(
            Problem(run_id, "this run has no winner to serve.", "Name a run with a pick (advisor runs), or a model.")
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            Problem(
                str(folder),
                f"the winner is damaged: {error}.",
                f"Write it again: the command of that run with --resume {run_id}",
            )
        ) from error
