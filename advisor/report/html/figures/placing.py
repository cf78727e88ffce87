"""Where to write names so that they do not cover each other. Pure arithmetic on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

_CHARACTER, _LINE = 6.2, 13.0
"""Pixels a character and a line take, about."""
_AWAY = 9.0
"""Pixels between a point and its name."""


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
    """One name a point: at the first of eight places that is free, else the first of all."""
    width, height = size
    points = [
        (width * _part(x, x_domain, logarithmic), height * (1 - _part(y, y_domain, False)))
        for x, y in zip(xs, ys, strict=True)
    ]
    taken: list[_Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    placed = []
    for point, text in zip(points, texts, strict=True):
        places = _places(text)
        free = [one for one in places if _fits(_box(point, one), taken, width)]
        chosen = (free or places)[0]
        taken.append(_box(point, chosen))
        placed.append(chosen)
    return placed


def spread(positions: Sequence[float], apart: float) -> list[float]:
    """Positions moved upwards as little as keeps them `apart`, in their order."""
    order = sorted(range(len(positions)), key=lambda at: positions[at])
    moved = list(positions)
    for before, at in zip(order, order[1:], strict=False):
        moved[at] = max(moved[at], moved[before] + apart)
    return moved


def _part(value: float, domain: Sequence[float], logarithmic: bool) -> float:
    low, high = domain
    if logarithmic:
        low, high, value = log10(low), log10(high), log10(value)
    return (value - low) / (high - low) if high > low else 0.5


def _places(text: str) -> list[Label]:
    right = [Label(text, "left", _AWAY, dy) for dy in (0.0, -_LINE, _LINE)]
    left = [Label(text, "right", -_AWAY, dy) for dy in (0.0, -_LINE, _LINE)]
    return [*right, *left, Label(text, "center", 0.0, -_LINE), Label(text, "center", 0.0, _LINE)]


def _box(point: tuple[float, float], label: Label) -> _Box:
    length = _CHARACTER * len(label.text)
    start = point[0] + label.dx - {"left": 0.0, "center": length / 2, "right": length}[label.align]
    middle = point[1] + label.dy
    return (start, middle - _LINE / 2, start + length, middle + _LINE / 2)


def _fits(box: _Box, taken: Sequence[_Box], width: int) -> bool:
    inside = box[0] >= 0 and box[2] <= width
    return inside and all(
        box[2] <= other[0] or other[2] <= box[0] or box[3] <= other[1] or other[3] <= box[1] for other in taken
    )
