"""Figures as sentences say them; unknown stays unknown."""

from __future__ import annotations


def percent(value: float) -> str:
    """A score as people say it: 0.85 -> 85 %."""
    return f"{100 * value:.3g} %"


def dollars(value: float | None) -> str:
    """Dollars with three significant digits below one; unknown stays unknown."""
    if value is None:
        return "an unknown price"
    if value < 0:
        return f"-{dollars(-value)}"
    return f"${value:,.2f}" if value >= 1 else f"${value:.3g}"
