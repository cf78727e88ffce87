"""The tools of a scenario: functions of a Python file, which are run, or declarations, whose calls are scored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from advisor.scenario.findings import Findings
from advisor.scenario.paths import shown
from advisor.tools.declare import NAME, declared
from advisor.tools.process import describe_file
from backends.errors import Problem
from backends.types import Tool
from evals.data import capped
from evals.files import read_table
from evals.task import Toolbox

_ROW = 'Write one tool a line: {"name": ..., "description": ..., "parameters": {...}}.'


def load_toolbox(text: str, findings: Findings) -> Toolbox | None:
    """The tools that `tools: TEXT` names; what is wrong with them is a problem at its file and line."""
    path = findings.file(("tools",), text)
    if path is None:
        return None
    if path.suffix == ".py":
        findings.warnings.append(f"the tools in {text} are code of the scenario: they run on this machine.")
        return _functions(path, findings)
    if path.suffix == ".jsonl":
        return _declarations(path, findings)
    what = f"tools: {text} is neither a .py nor a .jsonl file."
    findings.problem(("tools",), what, "Name tools.py with functions, or tools.jsonl with schemas.")
    return None


def _functions(path: Path, findings: Findings) -> Toolbox | None:
    where = shown(path, findings.folder)
    found = describe_file(path)
    problems = [Problem(f"{where}:{fault.line}", fault.what, fault.remedy) for fault in found.faults]
    for tool, line in zip(found.tools, found.lines, strict=True):
        place = f"{where}:{line}"
        if not NAME.fullmatch(tool.name):
            what = f"{tool.name} is no name that models can be told: one to 64 letters, digits and underscores."
            problems.append(Problem(place, what, "Rename the function."))
        if not tool.description:
            findings.warnings.append(f"{place}: {tool.name} has no docstring; models know it by its name alone.")
    findings.problems += problems
    return None if problems else Toolbox(found.tools, path)


def _declarations(path: Path, findings: Findings) -> Toolbox | None:
    table = read_table(path, shown(path, findings.folder))
    problems: list[Problem] = []
    tools: dict[str, Tool] = {}
    for row in table.rows:
        place = f"{table.where}:{row.line}"
        try:
            tool = declared(row.fields)
        except ValueError as error:
            problems.append(Problem(place, str(error), "Correct the tool: {name, description, parameters}."))
            continue
        if tool.name in tools:
            problems.append(Problem(place, f"a second tool is called {tool.name}.", "Rename or remove one."))
        tools.setdefault(tool.name, tool)
    found = [*map(_of_tools, table.problems), *capped(problems)]
    findings.problems += found
    return None if found else Toolbox(tuple(tools.values()))


def _of_tools(problem: Problem) -> Problem:
    """Tables are read as if of samples; what is said to do about them must be about tools."""
    is_of_samples = "samples" in problem.remedy or '"input"' in problem.remedy
    return dataclasses.replace(problem, remedy=_ROW) if is_of_samples else problem
