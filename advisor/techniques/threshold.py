"""From which certainty on a cheap answer is good enough: chosen from answers of both models, without asking again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from backends.types import add_known

NEVER_SURE = 2.0
"""A threshold that no certainty reaches."""

_ROUNDING = 1e-9
_MOST_ROWS = 12


@dataclass(frozen=True, slots=True)
class Point:
    """One sample, answered by both."""

    sure: float | None
    """How sure the cheap answer is, in [0, 1]; None is less sure than anything."""
    cheap: float
    """Score of the cheap answer."""
    dear: float
    """Score of the dear answer."""
    cheap_usd: float | None = None
    """What finding the cheap answer and its certainty cost."""
    dear_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What a cascade with this threshold would have done."""

    threshold: float
    """The cheap answer stands where its certainty is at least this."""
    answered_cheaply: float
    """Share of the samples."""
    score: float
    """Mean over the samples."""
    usd_per_1k_requests: float | None


def rows(points: Sequence[Point]) -> tuple[Row, ...]:
    """One row for each way the points can be divided, from nearly all cheap to all dear; empty without points.

    A threshold lies halfway between two neighbouring certainties, the first one at 0.
    """
    known = sorted({point.sure for point in points if point.sure is not None})
    between = [(low + high) / 2 for low, high in pairwise(known)]
    thresholds = [*([0.0] if known else []), *between, NEVER_SURE]
    return tuple(_row(points, threshold) for threshold in thresholds) if points else ()


def pick_threshold(found: Sequence[Row]) -> Row:
    """The row with the fewest dear answers among those that score no less than the dear answers alone.

    Every answer that stays cheap saves money, so the first such row is the cheapest. The best score would be no
    better rule: on so few samples the best of many rows is mostly luck, and the luck would be paid for by every
    request. There always is such a row: the last, where all answers are dear.
    """
    dear = found[-1].score
    return next(row for row in found if row.score >= dear - _ROUNDING)


def shown(found: Sequence[Row], picked: Row) -> tuple[Row, ...]:
    """At most about a dozen rows, evenly spaced, the picked one and the ends among them."""
    step = max(1, -(-len(found) // _MOST_ROWS))
    return tuple(
        row for number, row in enumerate(found) if number % step == 0 or row == picked or number == len(found) - 1
    )


def stands(sure: float | None, threshold: float) -> bool:
    """Whether a cheap answer of this certainty is given."""
    return sure is not None and sure >= threshold


def _row(points: Sequence[Point], threshold: float) -> Row:
    cheap = [stands(point.sure, threshold) for point in points]
    total: float | None = 0.0
    for point, kept in zip(points, cheap, strict=True):
        total = add_known(total, point.cheap_usd if kept else add_known(point.cheap_usd, point.dear_usd))
    scores = [point.cheap if kept else point.dear for point, kept in zip(points, cheap, strict=True)]
    return Row(
        threshold=threshold,
        answered_cheaply=sum(cheap) / len(points),
        score=sum(scores) / len(points),
        usd_per_1k_requests=None if total is None else 1000 * total / len(points),
    )
