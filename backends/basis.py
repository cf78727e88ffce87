"""Where the dollars of a model come from, so that a report can say it beside them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class PriceBasis:
    """The price that a model's dollars rest on."""

    text: str
    """The price and who says so, in a phrase; that it is unknown where it is."""
    given: bool
    """True when the user gave it."""
    known: bool = True
    """False when nobody told what it costs."""
    date: date | None = None
    """Day of the source; None where the user is the source, and where it carries no date."""
