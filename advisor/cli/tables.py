"""The final table and the recommendation on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.report.markdown import candidate_cells

STATUS_STYLES = {
    "certified": ("✓", "green"),
    "eliminated": ("✗", "red"),
    "hopeless": ("✗", "red"),
    "failed": ("!", "red"),
    "unresolved": ("?", "yellow"),
    "not needed": ("·", "dim"),
    "skipped": ("·", "dim"),
}


def status_text(status: str) -> Text:
    """A status as sign and word; the colour only repeats what they say."""
    sign, style = STATUS_STYLES.get(status, ("…", ""))
    return Text(f"{sign} {status}", style=style)


def show_report(console: Console, report: Mapping[str, Any], folder: Path, quiet: bool) -> None:
    """Print the candidates, the reasons, and where the files lie. `quiet` prints the verdict alone."""
    if not quiet:
        console.print(_table(report))
        if report["comparisons"]:
            console.print(_comparisons(report))
        console.print()
    console.print(Text(report["because"][0], style="bold"), soft_wrap=True)
    if quiet:
        return
    for sentence in report["because"][1:]:
        console.print(Text(f"• {sentence}"), soft_wrap=True)
    for title, lines in (("Risks", [r["text"] for r in report["risks"]]), ("Next", report["next_steps"])):
        for line in lines:
            console.print(Text.assemble((f"{title}: ", "bold"), line), soft_wrap=True)
    console.print(Text(_spending(report), style="dim"), soft_wrap=True)
    console.print(Text(f"Report: {folder / 'report.md'} and report.json", style="dim"), soft_wrap=True)


def _table(report: Mapping[str, Any]) -> Table:
    goal = report["goal"]
    table = Table(title=f"{report['scenario']['name']}: target {goal['target']:g}", title_justify="left")
    for head in ("candidate", "status", "n", "score", "interval", "$/1k", "p50 s", "tokens"):
        table.add_column(head, justify="left" if head in {"candidate", "status"} else "right", overflow="fold")
    for candidate in report["candidates"]:
        name, status, n, score, interval, usd, seconds, tokens, _ = candidate_cells(candidate)
        table.add_row(Text(name), status_text(status), n, score, interval, usd, seconds, tokens)
    return table


def _comparisons(report: Mapping[str, Any]) -> Table:
    table = Table(title="Pairs, on the same samples", title_justify="left")
    for head in ("a", "b", "a - b", "interval", "p (Holm)"):
        table.add_column(head, justify="left" if head in {"a", "b"} else "right", overflow="fold")
    for pair in report["comparisons"]:
        interval = f"{pair['low']:+.3f} to {pair['high']:+.3f}"
        table.add_row(Text(pair["a"]), Text(pair["b"]), f"{pair['difference']:+.3f}", interval, f"{pair['p_holm']:.2g}")
    return table


def _spending(report: Mapping[str, Any]) -> str:
    spent = report["spent"]
    usd = "unknown cost" if spent["usd"] is None else f"${spent['usd']:.4f}"
    text = f"Spent {usd} and {spent['seconds']:.0f} s; {spent['requests']} requests"
    if spent["cached_requests"]:
        text += f", {spent['cached_requests']} answers reused from the cache"
    return text + "."
