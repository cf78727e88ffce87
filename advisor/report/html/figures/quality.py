"""Score with interval of each candidate against the target, and cost against score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advisor.report.html import amounts, vega
from advisor.report.html.figures.figure import Figure
from advisor.report.html.figures.placing import place_labels
from advisor.report.html.names import LEGEND, Named, best
from advisor.report.html.vega import Spec
from backends.wording import counted

_WIDE = 20.0
"""Costs that differ by more than this factor are drawn on a logarithmic axis."""
_HEIGHT = 280
_ROOMY, _TALL_ROW = 450, 36
"""Rows are this high in pictures at least this wide."""


def scores(report: Mapping[str, Any], candidates: Sequence[Named]) -> Figure | None:
    """How well each candidate does, how sure that is, and where the target lies."""
    shown = [one for one in candidates if _score(one) is not None]
    if not shown:
        return None
    goal = report["goal"]
    return Figure(
        name="scores",
        title="Score against the target",
        summary=_scores_in_words(goal, shown),
        head=("candidate", "status", "score", "interval", "n", "score on dev"),
        rows=tuple(
            (
                one.label,
                one.status,
                amounts.score(one.found["mean_score"]),
                amounts.interval(one.found["score"]),
                str(one.found["n"]),
                amounts.score(one.found["dev_score"]),
            )
            for one in candidates
        ),
        draw=lambda width: _draw_scores(width, goal, shown),
        key=f"Filled: test samples, with the interval; hollow: dev samples only. {LEGEND}.",
        lead=True,
    )


def _score(one: Named) -> float | None:
    """On test samples, else on dev; the latter prove nothing and are drawn so."""
    found: float | None = one.found["mean_score"] if one.tested else one.found["dev_score"]
    return found


def _scores_in_words(goal: Mapping[str, Any], shown: Sequence[Named]) -> str:
    target = amounts.percent(goal["target"])
    leader = best(shown)
    above = [one.short for one in shown if one.found["status"] == "certified"]
    proved = f"proved to reach {target}: {', '.join(above)}" if above else f"nothing is proved to reach {target}"
    if leader is None:
        return f"Mean score of each candidate against the target; {proved}."
    found = leader.found
    sure = "" if found["score"] is None else f" (interval {amounts.interval(found['score'])})"
    return (
        f"Mean score of each candidate with its interval against the target; {proved}. {leader.short} scores "
        f"{amounts.score(found['mean_score'])}{sure} on {counted(found['n'], 'test sample')}."
    )


def _draw_scores(width: int, goal: Mapping[str, Any], shown: Sequence[Named]) -> Spec:
    names = [one.marked for one in shown]
    rows = [_score_row(one) for one in shown]
    tested = [row for row, one in zip(rows, shown, strict=True) if one.tested]
    untested = [row for row, one in zip(rows, shown, strict=True) if not one.tested]
    target, margin = goal["target"], goal["margin"]
    figures = [target, target + margin, *(float(row[key]) for row in rows for key in ("low", "high"))]
    across = vega.number("value", "score", domain=vega.domain(figures, 0.0, 1.0))
    down, shade = vega.row("name", names), vega.colour("colour")
    band = [{"from": target, "to": min(1.0, target + margin)}]
    return vega.layered(
        width,
        (vega.ROW if width < _ROOMY else _TALL_ROW) * len(names),
        vega.layer("rect", band, {"color": vega.TARGET, "opacity": 0.1}, x=vega.number("from"), x2={"field": "to"}),
        *vega.mark_at(target, f"target {target:g}"),
        vega.layer("rule", tested, {"strokeWidth": 2}, x=_side("low"), x2={"field": "high"}, y=down, color=shade),
        vega.layer("point", tested, {"filled": True, "size": 75, "opacity": 1}, x=across, y=down, color=shade),
        vega.layer("point", untested, {"filled": False, "size": 60, "opacity": 1}, x=across, y=down, color=shade),
    )


def _side(field: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": "score"}


def _score_row(one: Named) -> dict[str, Any]:
    interval = one.found["score"] if one.tested else None
    value = _score(one)
    ends = {"low": interval["low"], "high": interval["high"]} if interval else {"low": value, "high": value}
    return {"name": one.marked, "value": value, "colour": _colour(one), **ends}


def _colour(one: Named) -> str:
    return vega.ACCENT if one.picked else vega.PLAIN


def cost_against_score(report: Mapping[str, Any], candidates: Sequence[Named]) -> Figure | None:
    """What a better score costs; only where a price and a score are known."""
    shown = [one for one in candidates if _score(one) is not None and one.found["usd_per_1k_requests"] is not None]
    if len(shown) < 2:
        return None
    undominated = _undominated(report, shown)
    proved = bool(report["pareto"])
    return Figure(
        name="cost",
        title="Cost against score",
        summary=_cost_in_words(report, candidates, shown, undominated),
        head=("candidate", "$ per 1,000 requests", "score", "measured on", "undominated"),
        rows=tuple(
            (
                one.label,
                amounts.dollars(one.found["usd_per_1k_requests"]),
                amounts.score(_score(one)),
                "test" if one.tested else "dev, not tested",
                "yes" if one.id in undominated else "no",
            )
            for one in shown
        ),
        draw=lambda width: _draw_cost(width, report["goal"]["target"], shown, undominated),
        key=(
            "Diamond: not proved worse"
            if proved
            else "Diamond: undominated as measured; circle: another is cheaper and better"
        )
        + "; hollow: not tested, score from dev.",
        lead=True,
    )


def _undominated(report: Mapping[str, Any], shown: Sequence[Named]) -> set[str]:
    """After `compare`, those no other is proved to dominate; after a run, those no other beats as measured."""
    if report["pareto"]:
        return set(report["pareto"])
    tested = [one for one in shown if one.tested]
    return {one.id for one in tested if not any(_beats(other, one) for other in tested)}


def _beats(other: Named, one: Named) -> bool:
    cost, score = one.found["usd_per_1k_requests"], one.found["mean_score"]
    cheaper, better = other.found["usd_per_1k_requests"] <= cost, other.found["mean_score"] >= score
    return bool(cheaper and better and (other.found["usd_per_1k_requests"], other.found["mean_score"]) != (cost, score))


def _cost_in_words(
    report: Mapping[str, Any], candidates: Sequence[Named], shown: Sequence[Named], undominated: set[str]
) -> str:
    names = [one.short for one in shown if one.id in undominated]
    text = "Dollars per 1,000 requests against score. "
    if not names:
        text += "No candidate was tested."
    elif report["pareto"]:
        text += f"No other is proved to score better at no higher cost and no more time than {', '.join(names)}."
    else:
        text += f"Nothing measured here is both cheaper and better than {', '.join(names)}."
    unpriced = [one.short for one in candidates if _score(one) is not None and one not in shown]
    return text + (f" Without a known price and not drawn: {', '.join(unpriced)}." if unpriced else "")


def _draw_cost(width: int, target: float, shown: Sequence[Named], undominated: set[str]) -> Spec:
    costs = [float(one.found["usd_per_1k_requests"]) for one in shown]
    values = [_score(one) or 0.0 for one in shown]
    logarithmic = min(costs) > 0 and max(costs) / min(costs) > _WIDE
    sides = [min(costs) / 1.5, max(costs) * 2.2] if logarithmic else [0.0, (max(costs) or 1.0) * 1.25]
    across = vega.number(
        "usd", "$ per 1,000 requests", domain=sides, type="log" if logarithmic else "linear", format="~g", tickCount=4
    )
    heights = vega.domain([target, *values], -0.04, 1.04)
    up = vega.number("value", "score", domain=heights)
    labels = place_labels(
        costs, values, [one.label for one in shown], sides, heights, (width - 50, _HEIGHT), logarithmic
    )
    rows = [
        {
            "usd": usd,
            "value": value,
            "colour": _colour(one),
            "shape": "diamond" if one.id in undominated else "circle",
            "fill": _colour(one) if one.tested else "transparent",
        }
        for one, usd, value in zip(shown, costs, values, strict=True)
    ]
    look = {"color": vega.colour("colour"), "fill": vega.colour("fill")}
    shape = {"field": "shape", "type": "nominal", "scale": None, "legend": None}
    return vega.layered(
        width,
        _HEIGHT,
        *vega.mark_at(target, f"target {target:g}", axis="y"),
        vega.layer("point", rows, {"size": 90, "opacity": 1}, x=across, y=up, shape=shape, **look),
        *(
            vega.layer(
                "text",
                [{"usd": usd, "value": value, "text": label.text}],
                {"align": label.align, "dx": label.dx, "dy": label.dy},
                x=across,
                y=up,
                text=vega.words("text"),
            )
            for usd, value, label in zip(costs, values, labels, strict=True)
        ),
    )
