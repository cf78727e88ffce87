"""Vega-Lite specifications in few words. Colours are the page's CSS variables, so that pictures follow light and dark.

Specifications are plain JSON (vega.github.io/vega-lite/docs); `charts.py` turns them into SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Spec = dict[str, Any]
Rows = Sequence[dict[str, Any]]

INK, MUTED, FAINT, GRID = "var(--ink)", "var(--muted)", "var(--edge)", "var(--grid)"
ACCENT, PLAIN, TARGET = "var(--accent)", "var(--plain)", "var(--target)"
SERIES = ("var(--series-1)", "var(--series-2)", "var(--series-3)")
SURFACE = "var(--surface)"
ROW = 26
"""Height of one candidate's row, in pixels."""
_FONT = "system-ui, sans-serif"

CONFIG: Spec = {
    "aria": False,  # the page's own figure carries the text alternative
    "background": None,
    "font": _FONT,
    "padding": 2,
    "view": {"stroke": None},
    "axis": {
        "domainColor": FAINT,
        "tickColor": FAINT,
        "gridColor": GRID,
        "labelColor": INK,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titlePadding": 8,
        "labelLimit": 170,
    },
    "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
    "legend": {"labelColor": INK, "titleColor": MUTED, "labelFontSize": 11, "symbolType": "square", "orient": "top"},
    "text": {"fontSize": 11, "color": INK, "font": _FONT},
}


def layered(width: int, height: int, *layers: Spec | None) -> Spec:
    """Layers over each other in a picture of this whole width; None is left out."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": width,
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG,
        "layer": [layer for layer in layers if layer is not None],
    }


def layer(kind: str, rows: Rows, mark: Spec | None = None, **encoding: Any) -> Spec:
    """One kind of mark over these rows; `mark` are its properties."""
    shown = {name: channel for name, channel in encoding.items() if channel is not None}
    return {"data": {"values": list(rows)}, "mark": {"type": kind, **(mark or {})}, "encoding": shown}


def number(field: str, title: str | None = None, **scale: Any) -> Spec:
    """A figure on an axis. `format`, `values` and `ticks` shape the axis, other keywords its scale."""
    axis = {key: scale.pop(key) for key in ("format", "values", "labelExpr", "tickCount") if key in scale}
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "axis": {"grid": True, "tickCount": 5, **axis},
        "scale": {"zero": False, "nice": False, **scale},
    }


def row(field: str, names: Sequence[str]) -> Spec:
    """One row a name, in this order from the top."""
    axis = {"grid": False, "title": None}
    return {"field": field, "type": "nominal", "sort": list(names), "scale": {"domain": list(names)}, "axis": axis}


def category(field: str, colours: dict[str, str]) -> Spec:
    """Colours by name, with a legend in this order."""
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": field, "type": "nominal", "title": None, "scale": scale}


def colour(field: str) -> Spec:
    """Colours that the rows carry themselves."""
    return {"field": field, "type": "nominal", "scale": None, "legend": None}


def words(field: str) -> Spec:
    """Text that the rows carry."""
    return {"field": field, "type": "nominal"}


def mark_at(value: float, text: str, axis: str = "x") -> list[Spec]:
    """A dashed line across the picture at a value, with its name at the end."""
    rows = [{"at": value, "text": text}]
    place = {"field": "at", "type": "quantitative"}
    rule = layer("rule", rows, {"color": TARGET, "strokeDash": [4, 3], "strokeWidth": 1.5}, **{axis: place})
    ends: Spec = {"y": {"value": -6}} if axis == "x" else {"x": {"value": "width"}}
    look = {"align": "center" if axis == "x" else "right", "baseline": "bottom", "color": TARGET, "dy": -3}
    label = layer("text", rows, look, **{axis: place}, **ends, text=words("text"))
    return [rule, label]


def domain(values: Sequence[float], low: float | None = None, high: float | None = None) -> list[float]:
    """From the least to the greatest value with some air, kept within `low` and `high`."""
    least, greatest = min(values), max(values)
    air = 0.06 * (greatest - least) or 0.05
    least, greatest = least - air, greatest + air
    return [least if low is None else max(low, least), greatest if high is None else min(high, greatest)]
