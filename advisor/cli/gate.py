"""`advisor gate` and `advisor compare --fail-under`: what is printed, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from advisor.cli.progress import display
from advisor.gate import Baseline, Gated, gate
from advisor.regression import Rule, fail_under

EXIT_BELOW = 1


def show_gate(console: Console, found: Baseline, workspace: Path, rule: Rule, quiet: bool) -> Gated:
    """Run the gate with its progress, and print the verdict. Raises AdvisorError."""
    with display(console, quiet) as observe:
        gated = gate(found, workspace, rule, observe)
    _say(console, f"{'passed' if gated.passed else 'FAILED'}: {gated.sentence}")
    if not quiet:
        _say(console, f"Report: {gated.folder / 'gate.json'} and junit.xml")
    return gated


def exit_code_under(console: Console, report: Mapping[str, Any], mark: float | None, exit_code: int) -> int:
    """The exit code of a comparison with `--fail-under`; prints why. Codes other than 0 stay as they are."""
    if mark is None:
        return exit_code
    judged = fail_under(report, mark)
    _say(console, f"--fail-under {mark:g}: {'passed' if judged.passed else 'FAILED'}. {judged.sentence}")
    return exit_code if judged.passed or exit_code else EXIT_BELOW


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
