"""The final table and the recommendation on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.cli.names import short_names
from advisor.report.foreseen import foreseen_sentence
from advisor.report.markdown import candidate_cells
from advisor.report.measured import unsettled
from advisor.report.tuned import TITLE, trainings
from backends.wording import counted

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
        if any(one["tuned"] for one in trainings(report)):
            console.print(_trainings(report))
        console.print()
    console.print(Text(report["because"][0], style="bold"), soft_wrap=True)
    if quiet:
        return
    for sentence in report["because"][1:]:
        console.print(Text(f"• {sentence}"), soft_wrap=True)
    said = (
        ("Would change it", report.get("would_change", ())),
        ("Risks", [r["text"] for r in report["risks"]]),
        ("Next", report["next_steps"]),
    )
    for title, lines in said:
        for line in lines:
            console.print(Text.assemble((f"{title}: ", "bold"), line), soft_wrap=True)
    console.print(Text(_spending(report), style="dim"), soft_wrap=True)
    files = f"Report: {folder / 'report.html'}, also as .md, .json and junit.xml"
    console.print(Text(files, style="dim"), soft_wrap=True)


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


def _trainings(report: Mapping[str, Any]) -> Table:
    """What each training won and what it made the model forget; the report's own table says more."""
    table = Table(title=TITLE, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    found = trainings(report)
    probes = list(dict.fromkeys(probe["probe"] for one in found for probe in one["probes"]))
    for head in ("candidate", "won", *(f"kept: {name}" for name in probes), "training s", "$"):
        table.add_column(head, justify="left" if head == "candidate" else "right", overflow="fold")
    names = short_names(candidate["id"] for candidate in report["candidates"])
    for one in found:
        kept = {probe["probe"]: probe for probe in one["probes"]}
        effort = one["tuned"] or {"seconds": None, "cost_usd": None}
        table.add_row(
            Text(names.get(one["candidate"], "-")),
            _paired(one["gain"]),
            *(_paired(kept.get(name)) for name in probes),
            "-" if effort["seconds"] is None else f"{effort['seconds']:.0f}",
            "-" if effort["cost_usd"] is None else f"{effort['cost_usd']:.4f}",
        )
    return table


def _paired(found: Mapping[str, Any] | None) -> str:
    """A difference on the same samples, its interval below it."""
    return "-" if found is None else f"{found['difference']:+.3f}\n{found['low']:+.2f} to {found['high']:+.2f}"


def _spending(report: Mapping[str, Any]) -> str:
    spent = report["spent"]
    usd = "unknown cost" if spent["usd"] is None else f"${spent['usd']:.4f}"
    text = f"Spent {usd} and {spent['seconds']:.0f} s; {counted(spent['requests'], 'request')}"
    if spent["cached_requests"]:
        text += f", {counted(spent['cached_requests'], 'answer')} reused from the cache"
    return " ".join(part for part in (f"{text}.", foreseen_sentence(report), unsettled(report)) if part)
