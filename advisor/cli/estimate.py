"""`advisor estimate`: what a run would take, in tables of 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advisor.cli.names import short_names
from advisor.estimating.ahead import estimated, probed
from advisor.estimating.pricing import Amount
from advisor.estimating.result import ASSUMPTIONS, CandidateEstimate, Estimate
from advisor.scenario.model import Overrides
from advisor.span import Span
from backends.wording import counted
from evals.store import RunKind

EXIT_OVER_BUDGET = 3
_UNKNOWN = "unknown"


def show_estimate(
    console: Console, path: Path, overrides: Overrides, workspace: Path, probes: int | None, quiet: bool
) -> tuple[dict[str, Any], int]:
    """Estimate, print, and return the JSON object with the exit code. Raises AdvisorError."""
    if probes is None:
        found = estimated(path, overrides)
    else:
        # Brings the engine along, which an estimate without probes does without.
        from advisor.cli.progress import display

        with display(console, quiet) as observe:
            found = probed(path, overrides, workspace, probes, observe)
    _show(console, found, quiet)
    return found.as_json(), EXIT_OVER_BUDGET if found.exceeds_budget("run") else 0


def summary(amount: Amount, *, billed: bool = False) -> str:
    """Dollars, all of them or those that leave the house, minutes and requests of an amount, in a few words."""
    minutes = "" if amount.seconds is None else f", {_range(amount.seconds, _minutes)} minutes"
    dollars = _range(amount.billed_usd if billed else amount.usd, money)
    return f"{dollars}{minutes}, about {counted(amount.requests.expected, 'request', ',.0f')}"


def money(usd: float) -> str:
    """Dollars, with as many digits as say something."""
    if usd >= 100:
        return f"${usd:,.0f}"
    return f"${usd:.2f}" if usd >= 1 or usd == 0 else f"${usd:.2g}" if usd >= 1e-4 else "<$0.0001"


def budget_line(found: Estimate, kind: RunKind) -> str | None:
    """How the estimate stands to the dollar budget; None without one."""
    billed, budget = found.of(kind).billed_usd, found.budget_usd
    if budget is None:
        return None
    if billed is None:
        return f"Budget {money(budget)}: not every price is known, so that no budget can be kept. Give the prices."
    if billed.low > budget:
        return (
            f"Budget {money(budget)}: even the least that `{kind}` can take, {money(billed.low)}, is more. Nothing was "
            "spent on it. Raise it with --budget-usd, or name fewer candidates with --techniques and --models."
        )
    if billed.expected > budget:
        return f"Budget {money(budget)}: it is likely to end before `{kind}` is done; what is learnt by then is kept."
    if billed.high > budget:
        return f"Budget {money(budget)}: enough as expected, not at worst; nothing is spent beyond it."
    return f"Budget {money(budget)}: enough, also at worst."


def _show(console: Console, found: Estimate, quiet: bool) -> None:
    if not quiet:
        console.print(_candidates(found))
        console.print(_totals(found))
        for note in found.notes:
            console.print(Text(f"note: {note}"), soft_wrap=True)
        for assumption in ASSUMPTIONS:
            console.print(Text(f"assumed: {assumption}", style="dim"), soft_wrap=True)
    if found.probes:
        spent = _UNKNOWN if found.probed_usd is None else money(found.probed_usd)
        console.print(
            Text(f"Probed {counted(found.probes, 'dev sample')} a candidate for {spent}; a run reuses their answers.")
        )
    console.print(Text(f"run: {summary(found.of('run'))}", style="bold"), soft_wrap=True)
    line = budget_line(found, "run")
    if line is not None:
        console.print(Text(line), soft_wrap=True)


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    return table


def _candidates(found: Estimate) -> Table:
    heads = ("candidate", "requests", "tokens", "$ compare", "$ run", "$/1k")
    table = _table(
        f"{found.scenario}: expected (least-most) of each candidate, {counted(found.samples, 'test sample')}", heads
    )
    names = short_names(one.id for one in found.candidates)
    for one in found.candidates:
        table.add_row(Text(names[one.id]), *_cells(one))
    return table


def _cells(one: CandidateEstimate) -> tuple[str, ...]:
    whole = one.of("compare")
    return (
        f"{whole.requests.expected:,.0f}",
        f"{_count(whole.input_tokens.expected)}+{_count(whole.output_tokens.expected)}",
        _range(whole.usd, _figure, lines=True),
        _range(one.of("run").usd, _figure, lines=True),
        _UNKNOWN if one.usd_per_1k_requests is None else _figure(one.usd_per_1k_requests.expected),
    )


def _totals(found: Estimate) -> Table:
    heads = ("in all", "requests", "tokens in", "cached", "out", "$", "minutes")
    table = _table("", heads)
    kinds: tuple[tuple[RunKind, str], ...] = (("run", "run, stops early"), ("compare", "compare"))
    for kind, what in kinds:
        table.add_row(what, *_total(found.of(kind)))
    return table


def _total(amount: Amount) -> tuple[str, ...]:
    return (
        f"{amount.requests.expected:,.0f}",
        _count(amount.input_tokens.expected),
        _count(amount.cached_tokens.expected),
        _count(amount.output_tokens.expected),
        _range(amount.usd, _figure, lines=True),
        _range(amount.seconds, _minutes, lines=True),
    )


def _range(span: Span | None, shown: Callable[[float], str], *, lines: bool = False) -> str:
    if span is None:
        return _UNKNOWN
    low, expected, high = (shown(end) for end in (span.low, span.expected, span.high))
    if low == high:
        return expected
    return f"{expected}\n{low}-{high}" if lines else f"{expected} ({low} to {high})"


def _figure(usd: float) -> str:
    """Dollars in a column that says so."""
    return money(usd).replace("$", "")


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.1f}"


def _count(tokens: float) -> str:
    """A number of tokens in four characters or so."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.2g}{unit}" if tokens < 100 * size else f"{tokens / size:.0f}{unit}"
    return f"{tokens:.0f}"
