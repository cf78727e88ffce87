"""Asks before money leaves the house."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from backends.errors import BudgetError, InputError, Problem
from backends.wording import counted

if TYPE_CHECKING:
    from advisor.scenario.model import Overrides
    from evals.store import RunKind

_DECLINED = 2


@dataclass(frozen=True, slots=True)
class Sitting:
    """The command that is about to spend money."""

    kind: RunKind
    workspace: Path
    resume: str | None = None


def consent(console: Console, scenario: Path, overrides: Overrides, sitting: Sitting, yes: bool, quiet: bool) -> None:
    """Say what it is going to cost, and ask before money leaves the house; --yes answers where nobody can be asked.

    Raises BudgetError when even the least it can take is over the budget: nothing is begun then.
    """
    from advisor import engine

    if sitting.resume is not None:
        # Which models are called was said when the run began.
        overrides = engine.kept_options(sitting.kind, scenario, sitting.workspace, sitting.resume, overrides)
    else:
        engine.check(sitting.kind, scenario, overrides)
    models, uploads = engine.billed_models(scenario, overrides), engine.uploads(scenario, overrides)
    # What is left of a run that was interrupted is not known; it keeps within its budget as it did.
    if (models or uploads) and sitting.resume is None:
        told = _told(scenario, overrides, sitting)
        if not quiet:
            console.print(Text(told), soft_wrap=True)
    consent_to(models, yes, uploads)


def consent_to_probes(scenario: Path, overrides: Overrides, count: int, yes: bool) -> None:
    """Ask before probes are paid for: they are part of an estimate that otherwise spends nothing."""
    from advisor.engine import billed_models

    consent_to([f"{name} ({counted(count, 'probe')} a candidate)" for name in billed_models(scenario, overrides)], yes)


def _told(scenario: Path, overrides: Overrides, sitting: Sitting) -> str:
    """The estimate in a line or two. Raises BudgetError."""
    from advisor.cli.estimate import budget_line, summary
    from advisor.engine import TUNE_TECHNIQUES
    from advisor.estimating.ahead import estimated, is_fresh

    if sitting.kind == "tune":
        overrides = replace(overrides, techniques=TUNE_TECHNIQUES)
    found = estimated(scenario, overrides)
    line = budget_line(found, sitting.kind)
    # Answers that are remembered cost nothing, so that only a new workspace is sure of the least it takes.
    if line is not None and found.exceeds_budget(sitting.kind) and is_fresh(sitting.workspace):
        raise BudgetError(line)
    told = f"Estimate of what is billed: {summary(found.of(sitting.kind), billed=True)}."
    return told if line is None else f"{told} {line}"


def consent_to(models: Sequence[str], yes: bool, uploads: Sequence[str] = ()) -> None:
    """Ask before these models are called and these uploads made. Raises InputError where there is nobody to ask."""
    if yes or not (models or uploads):
        return
    told = [f"Calls to {', '.join(models)} spend money."] if models else []
    text = " ".join([*told, *uploads])
    if not sys.stdin.isatty():
        raise InputError(Problem("--yes", f"{text[:1].lower()}{text[1:]}", "Add --yes to consent."))
    if not typer.confirm(f"{text} Go on?"):
        raise typer.Exit(_DECLINED)
