"""Asks before money leaves the house."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from backends.errors import InputError, Problem

if TYPE_CHECKING:
    from advisor.scenario.model import Overrides

_DECLINED = 2


def consent(scenario: Path, overrides: Overrides, yes: bool) -> None:
    """Ask before money leaves the house; without a terminal to ask on, --yes must say so."""
    from advisor import engine

    consent_to(engine.billed_models(scenario, overrides), yes)


def consent_to(models: Sequence[str], yes: bool) -> None:
    """Ask before these models are called. Raises InputError where there is nobody to ask."""
    if not models or yes:
        return
    names = ", ".join(models)
    if not sys.stdin.isatty():
        raise InputError(Problem("--yes", f"calls to {names} spend money.", "Add --yes to consent."))
    if not typer.confirm(f"Calls to {names} spend money. Go on?"):
        raise typer.Exit(_DECLINED)
