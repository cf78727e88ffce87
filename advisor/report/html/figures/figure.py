"""One figure of the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advisor.report.html.vega import Spec


@dataclass(frozen=True)
class Figure:
    """A figure before it is drawn; complete as text without its picture."""

    name: str
    """Names it within the page."""
    title: str
    summary: str
    """What it shows, in a sentence or two: the text alternative of the picture."""
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Its data as a table: the first column names the row."""
    draw: Callable[[int], Spec]
    """Width in pixels to the specification of the picture."""
    key: str = ""
    """How to read its signs, where they need a word."""
    lead: bool = False
    """Whether it stands before the others, and larger."""
