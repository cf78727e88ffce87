"""The door to estimates: for the command, for the question before spending, and for the report of a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from advisor.candidates import Lineup, lineup
from advisor.estimating.estimate import estimate
from advisor.estimating.gauges import Gauges
from advisor.estimating.probing import probe
from advisor.estimating.result import Estimate
from advisor.events import Observer
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, Scenario
from advisor.workspace import Workspace
from backends.keyless import keyless
from backends.types import Usage
from evals.cache import store_path
from evals.store import RunKind

_FILE = "estimate.json"


def estimated(path: str | Path, overrides: Overrides) -> Estimate:
    """The estimate of a scenario, of whose models no key is needed. Raises InputError."""
    with keyless():
        scenario = load_scenario(path, overrides)
        return estimate(scenario, lineup(scenario), overrides)


def probed(path: str | Path, overrides: Overrides, workspace: Path, count: int, observe: Observer) -> Estimate:
    """The estimate after `count` paid probes a candidate. Raises AdvisorError; what was paid for stays stored."""
    scenario = load_scenario(path, overrides)
    found = lineup(scenario)
    probes = asyncio.run(probe(scenario, found, overrides, Workspace(workspace), count, observe))
    told = estimate(scenario, found, overrides, probes.found)
    return replace(told, probes=count, probed_usd=probes.usd)


def keep_estimate(workspace: Workspace, run_id: str, kind: RunKind, scenario: Scenario, overrides: Overrides) -> None:
    """Estimate a run that begins, for its report; nothing where no figure would come of it."""
    found = lineup(scenario)
    if _has_prices(scenario, found):
        told = estimate(scenario, found, overrides).for_report(kind)
        workspace.write(workspace.run_folder(run_id) / _FILE, json.dumps(told))


def kept_estimate(workspace: Workspace, run_id: str) -> Mapping[str, Any] | None:
    """What was estimated when this run began."""
    path = workspace.run_folder(run_id) / _FILE
    if not path.is_file():
        return None
    told: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def is_fresh(workspace: Path) -> bool:
    """Whether this workspace remembers no answers, which could make a run cheaper than its estimate."""
    return not store_path(workspace).is_file()


def _has_prices(scenario: Scenario, found: Lineup) -> bool:
    """Whether every candidate's model has a price: a local one that has not run here has none, and needs no consent."""
    gauges = Gauges(scenario)
    names = {one.model for one in (*found.prompting, *found.tuning)}
    return all(gauges[name].price(Usage(1, 1000, 0, 10)) is not None for name in names)
