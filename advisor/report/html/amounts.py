"""Figures as people read them; unknown stays unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN = "unknown"
NONE = "–"
"""Where there is nothing to measure."""


def dollars(value: float | None) -> str:
    """Two decimals from one dollar on, else three significant digits."""
    if value is None:
        return UNKNOWN
    if value < 0:
        return f"−{dollars(-value)}"
    if value == 0 or value >= 1:
        return f"${value:,.2f}"
    return f"${value:.3g}" if value >= 1e-4 else f"${value:.1e}"


def seconds(value: float | None) -> str:
    """Seconds, in milliseconds where they are few."""
    if value is None:
        return NONE
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"


def score(value: float | None) -> str:
    """Three decimals: a score has no more."""
    return NONE if value is None else f"{value:.3f}"


def interval(found: Mapping[str, Any] | None) -> str:
    """From low to high."""
    return NONE if found is None else f"{found['low']:.3f}–{found['high']:.3f}"


def share(value: float) -> str:
    """A part of the whole, in per cent."""
    return f"{100 * value:.0f} %"


def percent(value: float) -> str:
    """A goal as people say it: 0.85 is 85 %."""
    return f"{100 * value:.4g} %"


def tokens(value: float | None) -> str:
    """Tokens of one request, on average."""
    return NONE if value is None else f"{value:,.0f}"


def words(name: str) -> str:
    """An identifier as words: `not_needed` is "not needed"."""
    return name.replace("_", " ")
