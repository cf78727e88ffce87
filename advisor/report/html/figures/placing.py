"""Where to write names so that they do not cover each other. Pure arithmetic on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10

_CHARACTER, _LINE = 6.2, 13.0
"""Pixels a character and a line take, about."""
_AWAY = 9.0
"""Pixels between a point and its name."""
_MOST_LINES = 7
"""Lines that a name may stand above or below its point."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name beside its point, in pixels."""

    text: str
    align: str
    dx: float
    dy: float


_Box = tuple[float, float, float, float]


def place_labels(
    xs: Sequence[float],
    ys: Sequence[float],
    texts: Sequence[str],
    x_domain: Sequence[float],
    y_domain: Sequence[float],
    size: tuple[int, int],
    logarithmic: bool,
) -> list[Label]:
    """One name a point: at the first place that is free, nearest first; beside the point where none is."""
    width, height = size
    points = [
        (width * _part(x, x_domain, logarithmic), height * (1 - _part(y, y_domain, False)))
        for x, y in zip(xs, ys, strict=True)
    ]
    taken: list[_Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    placed = []
    for point, text in zip(points, texts, strict=True):
        places = _places(text)
        free = [one for one in places if _fits(_box(point, one), taken, size)]
        chosen = (free or places)[0]
        taken.append(_box(point, chosen))
        placed.append(chosen)
    return placed


def spread(positions: Sequence[float], apart: float) -> list[float]:
    """Positions moved upwards as little as keeps them `apart`, in their order."""
    order = sorted(range(len(positions)), key=lambda at: positions[at])
    moved = list(positions)
    for before, at in pairwise(order):
        moved[at] = max(moved[at], moved[before] + apart)
    return moved


def _part(value: float, domain: Sequence[float], logarithmic: bool) -> float:
    low, high = domain
    if logarithmic:
        low, high, value = log10(low), log10(high), log10(value)
    return (value - low) / (high - low) if high > low else 0.5


def _places(text: str) -> list[Label]:
    """Beside the point first, then ever further above and below."""
    lines = [0.0, *(sign * _LINE * step for step in range(1, _MOST_LINES + 1) for sign in (1, -1))]
    beside = [Label(text, align, dx, 0.0) for align, dx in (("left", _AWAY), ("right", -_AWAY))]
    centred = [Label(text, "center", 0.0, sign * _LINE) for sign in (-1, 1)]
    return [
        *beside,
        *centred,
        *(Label(text, align, dx, dy) for dy in lines[1:] for align, dx in (("left", _AWAY), ("right", -_AWAY))),
    ]


def _box(point: tuple[float, float], label: Label) -> _Box:
    length = _CHARACTER * len(label.text)
    start = point[0] + label.dx - {"left": 0.0, "center": length / 2, "right": length}[label.align]
    middle = point[1] + label.dy
    return (start, middle - _LINE / 2, start + length, middle + _LINE / 2)


def _fits(box: _Box, taken: Sequence[_Box], size: tuple[int, int]) -> bool:
    inside = box[0] >= 0 and box[2] <= size[0] and box[1] >= -_LINE and box[3] <= size[1]
    return inside and all(
        box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1] for other in taken
    )
