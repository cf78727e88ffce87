"""The money tables of a report, for every form of it: dollars a month of each candidate, and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backends.wording import counted

BILLS_TITLE = "Dollars a month"
BILLS_HEAD = ("candidate", "serving", "of it whatever the volume", "once, for fitting", "wrong answers")
ASSUMPTIONS_TITLE = "What the money figures rest on"
ASSUMPTIONS_HEAD = ("assumption", "value", "from", "set by")


def bill_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row a candidate whose price is known; none where the scenario gives no traffic."""
    money = report["economics"]
    if money.get("requests_per_month") is None or "bills" not in money:
        return []
    return [
        (
            name,
            _dollars(money["monthly_usd"][name]),
            _dollars(bill["fixed_usd_per_month"]),
            _dollars(bill["once_usd"]),
            _dollars(money["monthly_errors_usd"][name]),
        )
        for name, bill in money["bills"].items()
        if bill["usd_per_request"] is not None
    ]


def bills_note(report: Mapping[str, Any]) -> str:
    """What the table says, and what it leaves out."""
    money = report["economics"]
    unpriced = "" if _has_errors(money) else " Wrong answers cost what traffic.usd_per_error says, which is not set."
    return f"At {counted(money['requests_per_month'], 'request', ',.0f')} a month.{unpriced}"


def assumption_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row an assumption; none for reports from before they were noted."""
    return [
        (one["name"], _assumed(one), one["source"], one["key"] or "-")
        for one in report["economics"].get("assumptions", ())
    ]


def _has_errors(money: Mapping[str, Any]) -> bool:
    return any(usd is not None for usd in money["monthly_errors_usd"].values())


def _assumed(one: Mapping[str, Any]) -> str:
    """The value with its unit, and the note behind it."""
    value, unit = one["value"], one["unit"]
    parts: Sequence[str] = [_value(value, unit)] if value is not None else []
    return "; ".join([*parts, *([one["note"]] if one["note"] else [])]) or "none"


def _value(value: float | bool, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if unit.startswith("$"):
        return f"{_dollars(value)}{unit[1:]}"
    text = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    things, space, rest = unit.partition(" ")
    return f"{text} {things.removesuffix('s') if text == '1' else things}{space}{rest}".strip()


def _dollars(value: float | None) -> str:
    """Cents from one dollar on, else three significant digits."""
    if value is None:
        return "-"
    sign, size = ("-" if value < 0 else ""), abs(value)
    return f"{sign}${size:,.2f}" if size >= 1 or size == 0 else f"{sign}${size:.3g}"
