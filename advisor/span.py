"""A figure that is not known yet: the least it may be, what is expected, the most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self


@dataclass(frozen=True, slots=True)
class Span:
    """Three figures, none negative. Sums add the ends, as if all went well or all went badly together."""

    low: float
    expected: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Self:
        """A figure that is known."""
        return cls(value, value, value)

    @classmethod
    def one_of(cls, spans: Sequence[Self]) -> Self:
        """A figure that is one of these, nobody knows which."""
        return cls(
            min(span.low for span in spans), fmean(span.expected for span in spans), max(span.high for span in spans)
        )

    @classmethod
    def total(cls, spans: Iterable[Self]) -> Self:
        """The sum of all; nothing for none."""
        found = list(spans)
        return cls(*(sum(getattr(span, end) for span in found) for end in ("low", "expected", "high")))

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: Span | float) -> Span:
        by = other if isinstance(other, Span) else Span.exactly(other)
        return Span(self.low * by.low, self.expected * by.expected, self.high * by.high)

    def at_most(self, limit: float) -> Span:
        """The same, cut at a limit."""
        return Span(min(self.low, limit), min(self.expected, limit), min(self.high, limit))


NONE = Span(0.0, 0.0, 0.0)
ONCE = Span(1.0, 1.0, 1.0)
