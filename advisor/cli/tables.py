"""The final table and the recommendation on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.report.markdown import candidate_cells

_NAME_WIDTH = 22
"""Characters of a candidate's name that a table of 80 columns has room for."""
_STYLES = {
    "certified": "green",
    "eliminated": "red",
    "hopeless": "red",
    "failed": "red",
    "unresolved": "yellow",
    "not needed": "dim",
    "skipped": "dim",
}


def status_text(status: str) -> Text:
    """A status in words; the colour only repeats what they say."""
    return Text(status, style=_STYLES.get(status, ""))


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
    files = f"Report: {folder / 'report.html'}, also as .md, .json and junit.xml"
    console.print(Text(files, style="dim"), soft_wrap=True)


def short_names(candidates: Iterable[str]) -> dict[str, str]:
    """What to call candidates where room is short: the technique alone while all are on one model."""
    found = [candidate.partition("@") for candidate in candidates]
    one_model = len({model for _, _, model in found}) == 1
    return {f"{name}@{model}": _broken(name) + ("" if one_model else f"\n  {model}") for name, _, model in found}


def _broken(name: str) -> str:
    """A technique with settings too long for one line has them on the next."""
    return name if len(name) <= _NAME_WIDTH else name.replace("(", "\n  (", 1)


def _table(report: Mapping[str, Any]) -> Table:
    goal, candidates = report["goal"], report["candidates"]
    models = sorted({candidate["model"] for candidate in candidates})
    where = f" on {models[0]}" if len(models) == 1 else ""
    table = Table(
        title=f"{report['scenario']['name']}{where}, target {goal['target']:g}",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for head in ("candidate", "status", "n", "score", "interval", "$/1k", "p50 s", "tokens"):
        table.add_column(head, justify="left" if head in {"candidate", "status"} else "right", overflow="fold")
    names = short_names(candidate["id"] for candidate in candidates)
    for candidate in candidates:
        name, status, n, score, interval, usd, seconds, tokens, _ = candidate_cells(candidate)
        table.add_row(Text(names[name]), status_text(status), n, score, interval, usd, seconds, tokens)
    return table


def _comparisons(report: Mapping[str, Any]) -> Table:
    table = Table(title="Pairs, on the same samples", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("a", "b", "a - b", "interval", "p (Holm)"):
        table.add_column(head, justify="left" if head in {"a", "b"} else "right", overflow="fold")
    names = short_names(candidate["id"] for candidate in report["candidates"])
    for pair in report["comparisons"]:
        interval = f"{pair['low']:+.3f} to {pair['high']:+.3f}"
        table.add_row(
            Text(names[pair["a"]]),
            Text(names[pair["b"]]),
            f"{pair['difference']:+.3f}",
            interval,
            f"{pair['p_holm']:.2g}",
        )
    return table


def _spending(report: Mapping[str, Any]) -> str:
    spent = report["spent"]
    usd = "unknown cost" if spent["usd"] is None else f"${spent['usd']:.4f}"
    text = f"Spent {usd} and {spent['seconds']:.0f} s; {spent['requests']} requests"
    if spent["cached_requests"]:
        text += f", {spent['cached_requests']} answers reused from the cache"
    return text + "."
