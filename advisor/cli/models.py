"""`advisor models`: what is installed here, and what is known of models behind endpoints."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from advisor.inventory import Inventory, inventory
from backends.local.installed import Installed
from backends.openai.known import Known

_ROOM = 10_000
"""Columns of a terminal on which no table would fold."""


def show_models(console: Console, pattern: str | None, endpoint: str | None, workspace: Path) -> dict[str, Any]:
    """Print what was found and return it. Raises InputError."""
    found = inventory(pattern, endpoint, workspace, datetime.now(UTC).date())
    if found.local:
        table = _local(found)
        # Names are to be copied in one piece: on a narrow terminal the lines run over, and nothing in them folds.
        table.width = Measurement.get(console, console.options.update(width=_ROOM), table).maximum
        console.print(table, soft_wrap=True)
        for one in found.local:
            if one.problem is not None:
                console.print(Text(f"{one.name} {one.problem}", style="yellow"), soft_wrap=True)
    if found.remote:
        console.print(_remote(found))
    elif not found.local:
        console.print("No models were found.")
    for line in (*found.notes, *_legend(found, pattern, endpoint)):
        console.print(Text(line, style="dim"), soft_wrap=False)
    return found.as_json()


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for head in left:
        table.add_column(head, overflow="fold")
    for head in right:
        table.add_column(head, justify="right", overflow="fold")
    return table


def _local(found: Inventory) -> Table:
    table = _table("On this machine", ("model", "kind", "licence"), ("parameters", "size", "context"))
    for one in found.local:
        table.add_row(
            Text(one.name), one.kind, one.licence or "-", _count(one.parameters), _size(one), _count(one.context)
        )
    return table


def _remote(found: Inventory) -> Table:
    prefixes = {one.name.partition("/")[0] for one in found.remote}
    common = f"{prefixes.pop()}/" if len(prefixes) == 1 else ""
    title = f"Behind endpoints, as {common}NAME" if common else "Behind endpoints"
    table = _table(title, ("name",), ("$ in/cached/out", "context", "tuning $", "shut down"))
    for one in sorted(found.remote, key=lambda one: (found.days_left(one) is None, one.lifecycle.shutdown, one.name)):
        name = one.name.removeprefix(common)
        table.add_row(Text(name), _prices(one), _count(one.context), _tuning(one, found), _end(one, found))
    return table


def _prices(one: Known) -> str:
    return "-" if one.usd is None else "/".join("-" if usd is None else f"{usd:.4g}" for usd in one.usd)


def _tuning(one: Known, found: Inventory) -> Text:
    """Its price, and the last day on which a training may begin."""
    if not one.is_tunable:
        return Text("-")
    price = f"{one.training_usd:g}" if one.training_usd is not None else f"{one.training_usd_per_hour:g} an hour"
    ends = one.lifecycle.training_ends
    if ends is None:
        return Text(price)
    over = ends < found.day
    return Text.assemble(price, ("\nno more" if over else f"\nto {ends}", "red" if over else "yellow"))


def _end(one: Known, found: Inventory) -> Text:
    """The date, how long that is, and what its maker names instead."""
    left = found.days_left(one)
    if left is None:
        return Text("-")
    text = Text(f"{one.lifecycle.shutdown} ")
    text.append("(gone)" if left <= 0 else f"({left} d)", style="red" if left <= 90 else "")
    if one.lifecycle.replacement:
        text.append(f"\nthen {one.lifecycle.replacement}", style="dim")
    return text


def _count(value: float | None) -> str:
    """1,500,000 as 1.5M; unknown is a dash."""
    if value is None:
        return "-"
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def _size(one: Installed) -> str:
    return f"{one.bytes / 1e9:.2f} GB" if one.bytes >= 1e9 else f"{one.bytes / 1e6:.0f} MB"


def _legend(found: Inventory, pattern: str | None, endpoint: str | None) -> list[str]:
    """Units, sources with their dates, and how to see more."""
    if not found.remote:
        return []
    lines = ["Dollars per million tokens. Unknown is a dash, never zero."]
    sources = {one.prices.rpartition(": ")[2]: one.prices_date for one in found.remote if one.usd is not None}
    lines += [f"Prices: {source}{_priced(source, day)}." for source, day in sources.items()]
    lines += [f"Tuning: {source}. Estimates." for source in _once(one.training_source for one in found.remote)]
    lives = [one.lifecycle for one in found.remote if one.lifecycle.shutdown is not None]
    lines += [f"Dates: {source}." for source in _once(f"{life.source}{_dated(life.read)}" for life in lives)]
    if pattern is None and endpoint is None:
        lines.append("Others by a part of their name: advisor models mini; of an endpoint: --endpoint NAME.")
    return lines


def _priced(source: str, day: object) -> str:
    if day is None:
        return ""
    # The package carries no date of its own.
    return f", whose newest change is of {day}" if source.startswith("genai-prices") else f", read {day}"


def _dated(day: object) -> str:
    return "" if day is None else f", read {day}"


def _once(texts: Any) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]
