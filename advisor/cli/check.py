"""`advisor check`: everything that can be said before anything is spent."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from advisor.billing import unpriced
from advisor.candidates import NOT_NAMED, Lineup, lineup, teachers
from advisor.resolution import resolution
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, Scenario
from backends.errors import InputError
from backends.wording import counted

_STAND_IN = "TODO:"
"""How instructions begin that `init` made up."""


def show_check(console: Console, path: Path, overrides: Overrides, quiet: bool) -> None:
    """Load the scenario and print what it is. Raises InputError with every problem."""
    scenario = load_scenario(path, overrides)
    found = lineup(scenario)
    problem = unpriced(scenario, found.prompting)
    if problem is not None:
        raise InputError(problem)
    if quiet:
        return
    task, goal = scenario.task, scenario.goal
    lines = [
        f"{scenario.file}: {scenario.name} is in order.",
        f"  data: {len(task.train)} train, {len(task.dev)} dev, {counted(len(task.test), 'test sample')}"
        + (f", {counted(len(task.labels), 'label')}" if task.labels else ""),
        f"  goal: {scenario.scorer_name} of at least {goal.target:g} at {goal.confidence:.0%} confidence",
        *(f"  candidate: {one.id} ({one.technique.summary})" for one in found.prompting),
        *(f"  if needed: {one.id} ({one.technique.summary})" for one in found.tuning),
        *_teacher(scenario, found),
        *_choice(scenario, found),
        f"  power: {resolution(scenario, found)}",
        *(f"  note: {warning}" for warning in scenario.warnings),
        *_unwritten(scenario),
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _unwritten(scenario: Scenario) -> list[str]:
    """Instructions that still are a stand-in: they load, and every candidate is asked with them."""
    if not scenario.task.instructions.lstrip().startswith(_STAND_IN):
        return []
    return ["  note: instructions are still the TODO that init wrote. Say what is to be done: every prompt holds them."]


def _teacher(scenario: Scenario, found: Lineup) -> list[str]:
    """Who may teach the tuned model, what it is asked, and whether gold is learnt from too."""
    rules, able = scenario.fine_tune.teacher, teachers(scenario, found)
    if rules is None or not found.tuning:
        return []
    inputs = min(rules.samples, len(rules.inputs.samples))
    times = "once" if rules.answers == 1 else f"up to {rules.answers} times each"
    gold = "the train samples too" if rules.gold == "include" else "that alone"
    who = " or ".join(one.id for one in able)
    return [
        f"  teacher: {who} answers {counted(inputs, 'unlabelled input')}, {times}; the tuned model learns from {gold}"
    ]


def _choice(scenario: Scenario, found: Lineup) -> list[str]:
    """Why each technique is in or out, where the choice was left to us; else what could not be used as asked for."""
    if scenario.techniques is None:
        return [
            *(f"  in: {one.technique}, because {one.reason}" for one in found.chosen),
            *(f"  out: {one.technique}, because {one.reason}" for one in found.left_out),
        ]
    return [f"  out: {one.technique}, because {one.reason}" for one in found.left_out if one.reason != NOT_NAMED]
