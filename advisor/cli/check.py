"""`advisor check`: everything that can be said before anything is spent."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from advisor.candidates import lineup
from advisor.resolution import resolution
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides


def show_check(console: Console, path: Path, overrides: Overrides, quiet: bool) -> None:
    """Load the scenario and print what it is. Raises InputError with every problem."""
    scenario = load_scenario(path, overrides)
    found = lineup(scenario)
    if quiet:
        return
    task, goal = scenario.task, scenario.goal
    lines = [
        f"{scenario.file}: {scenario.name} is in order.",
        f"  data: {len(task.train)} train, {len(task.dev)} dev, {len(task.test)} test samples"
        + (f", {len(task.labels)} labels" if task.labels else ""),
        f"  goal: {scenario.scorer_name} of at least {goal.target:g} at {goal.confidence:.0%} confidence",
        *(f"  candidate: {one.id} ({one.technique.summary})" for one in found.prompting),
        *(f"  if needed: {one.id} ({one.technique.summary})" for one in found.tuning),
        *(f"  why: {one.technique}, {one.reason}" for one in found.chosen),
        *(f"  left out: {one.technique}, {one.reason}" for one in found.left_out),
        f"  power: {resolution(scenario, found)}",
        *(f"  note: {warning}" for warning in scenario.warnings),
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
