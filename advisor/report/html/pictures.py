"""Figures as the page shows them: the picture where it can be drawn, its text alternative, its data as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advisor.report.html.figures.figure import Figure
from advisor.report.html.markup import Markup, element, folded, table
from advisor.report.html.vega import Spec
from backends.errors import InputError
from backends.extras import require

_CHARTS = "advisor.report.html.charts"
_LEAD, _NARROW = 500, 330
"""Pixels: half of the page, and a third of it or the whole of a phone."""

Draw = Callable[[Spec, str], Markup]


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure as HTML."""

    markup: Markup
    missing: str | None
    """What to install to see it drawn; None when it is."""


def pictures(figures: Sequence[Figure]) -> list[Picture]:
    """All figures; without the package that draws, their tables, open."""
    try:
        draw, missing = require(_CHARTS, "report").svg, None
    except InputError as error:
        draw, missing = None, str(error.problems[0].remedy)
    return [Picture(_shown(figure, draw), missing) for figure in figures]


def _shown(figure: Figure, draw: Draw | None) -> Markup:
    title = element("h3", figure.title, id=f"figure-{figure.name}")
    data = table(f"Data of: {figure.title}", figure.head, figure.rows)
    caption = element("p", figure.summary)
    drawn = None if draw is None else _drawing(figure, draw)
    below = data if drawn is None else folded("Data", data)
    key = element("p", figure.key, class_="key") if figure.key and drawn is not None else None
    kind = "card lead" if figure.lead else "card"
    return element("figure", title, drawn, element("figcaption", caption, key, below), class_=kind)


def _drawing(figure: Figure, draw: Draw) -> Markup | None:
    """The picture in the sizes it is shown in; None when it cannot be drawn, which must not cost a run its report."""
    try:
        sizes = [draw(figure.draw(_NARROW), f"{figure.name}-n")]
        if figure.lead:
            wide = draw(figure.draw(_LEAD), f"{figure.name}-w")
            sizes = [element("div", wide, class_="wide"), element("div", sizes[0], class_="narrow")]
    except ValueError:  # what vl-convert raises for everything
        return None
    return element("div", *sizes, class_="drawing", role="img", aria_label=f"{figure.title}. {figure.summary}")
