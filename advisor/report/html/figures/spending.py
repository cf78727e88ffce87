"""What a request takes: seconds, tokens, and dollars a month over volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advisor.report.html import amounts, vega
from advisor.report.html.evidence import Evidence
from advisor.report.html.figures.figure import Figure
from advisor.report.html.figures.placing import spread
from advisor.report.html.names import Named
from advisor.report.html.vega import Spec
from backends.wording import counted

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_WIDE = 20.0
_HEIGHT = 230
_VOLUME = 100_000.0
"""Requests a month to draw up to where the scenario names no traffic."""
_PARTS = {"input": vega.SERIES[0], "input from a cache": vega.SERIES[1], "output": vega.SERIES[2]}


def latencies(report: Mapping[str, Any], candidates: Sequence[Named], evidence: Evidence) -> Figure | None:
    """How long answers take, as quantiles of test trials, else of dev trials."""
    found = [(one, quantiles) for one in candidates if (quantiles := _quantiles(evidence, one)) is not None]
    if not found:
        return None
    limit = report["goal"].get("max_p95_seconds")
    slowest = max(found, key=lambda pair: pair[1][2])[0]
    quickest = min(found, key=lambda pair: pair[1][2])[0]
    return Figure(
        name="latency",
        title="Seconds of an answer",
        summary=f"Seconds of model time an answer takes. {quickest.short} is the quickest at the median, "
        f"{slowest.short} the slowest."
        + ("" if limit is None else f" The limit is {limit:g} s at the 95th percentile."),
        head=("candidate", *(f"p{100 * level:.0f}" for level in _QUANTILES)),
        rows=tuple((one.label, *map(amounts.seconds, quantiles)) for one, quantiles in found),
        draw=lambda width: _draw_latencies(width, limit, found),
        key="Dot: median; thick: the middle half; thin: 5th to 95th percentile.",
    )


def _quantiles(evidence: Evidence, one: Named) -> tuple[float, ...] | None:
    tested = [trial.seconds for trial in evidence.of(one.id) if trial.error is None]
    tried = [
        trial.seconds
        for trial in evidence.trials
        if trial.candidate == one.id and trial.split == "dev" and not trial.variant and trial.error is None
    ]
    seconds = tested or tried
    return tuple(float(value) for value in np.quantile(seconds, _QUANTILES)) if seconds else None


def _draw_latencies(width: int, limit: float | None, found: Sequence[tuple[Named, tuple[float, ...]]]) -> Spec:
    names = [one.label for one, _ in found]
    rows = [
        dict(zip(("p5", "p25", "p50", "p75", "p95"), quantiles, strict=True))
        | {"name": one.label, "colour": vega.ACCENT if one.picked else vega.PLAIN}
        for one, quantiles in found
    ]
    least, most = min(q[0] for _, q in found), max([q[-1] for _, q in found] + ([limit] if limit else []))
    logarithmic = least > 0 and most / least > _WIDE
    sides = [least / 1.2, most * 1.2] if logarithmic else [0.0, (most or 1.0) * 1.05]
    across = vega.number(
        "p50", "seconds", domain=sides, type="log" if logarithmic else "linear", format="~g", tickCount=4
    )
    down, shade = vega.row("name", names), vega.colour("colour")

    def line(start: str, end: str, thickness: float) -> Spec:
        ends = {"x": {"field": start, "type": "quantitative"}, "x2": {"field": end}}
        return vega.layer("rule", rows, {"strokeWidth": thickness, "opacity": 0.7}, **ends, y=down, color=shade)

    dot = {"filled": True, "size": 55, "opacity": 1, "stroke": vega.SURFACE, "strokeWidth": 1.5}
    return vega.layered(
        width,
        vega.ROW * len(names),
        *([] if limit is None else vega.mark_at(limit, f"limit {limit:g}")),
        line("p5", "p95", 1.5),
        line("p25", "p75", 7),
        vega.layer("point", rows, dot, x=across, y=down, color=shade),
    )


def tokens(candidates: Sequence[Named]) -> Figure | None:
    """Tokens of one request, by what they are."""
    found = [one for one in candidates if one.found["tokens_per_request"]["input"] is not None]
    if not found:
        return None
    parts = [(one, _parts(one)) for one in found]
    longest = max(parts, key=lambda pair: sum(pair[1]))
    return Figure(
        name="tokens",
        title="Tokens of a request",
        summary=f"Tokens that one request takes on average. {longest[0].short} takes most, {sum(longest[1]):,.0f}.",
        head=("candidate", *_PARTS),
        rows=tuple((one.label, *map(amounts.tokens, three)) for one, three in parts),
        draw=lambda width: _draw_tokens(width, parts),
    )


def _parts(one: Named) -> tuple[float, float, float]:
    found = one.found["tokens_per_request"]
    return found["input"] - found["cached"], found["cached"], found["output"]


def _draw_tokens(width: int, parts: Sequence[tuple[Named, tuple[float, float, float]]]) -> Spec:
    rows = [
        {"name": one.label, "tokens": tokens, "part": part, "order": at}
        for one, three in parts
        for at, (part, tokens) in enumerate(zip(_PARTS, three, strict=True))
    ]
    used = {row["part"] for row in rows if row["tokens"]}
    colours = {part: colour for part, colour in _PARTS.items() if part in used}
    across = vega.number("tokens", "tokens", zero=True, format="~s", tickCount=4) | {"stack": "zero"}
    return vega.layered(
        width,
        vega.ROW * len(parts),
        vega.layer(
            "bar",
            [row for row in rows if row["tokens"]],
            {"height": 13, "stroke": vega.SURFACE, "strokeWidth": 1},
            x=across,
            y=vega.row("name", [one.label for one, _ in parts]),
            color=vega.category("part", colours),
            order={"field": "order", "type": "quantitative"},
        ),
    )


def monthly(report: Mapping[str, Any], candidates: Sequence[Named]) -> Figure | None:
    """Dollars a month over volume: what fitting cost, spread over the horizon, and each request."""
    shown = [one for one in candidates if one.tested and _priced(one, report["economics"])]
    if not any(one.found["usd_per_1k_requests"] for one in shown):
        return None
    money = report["economics"]
    volume, even = money["requests_per_month"], money["break_even_requests_per_month"]
    months = money["months"] or 12.0
    most = 1.3 * max(volume or _VOLUME, even or 0.0)
    lines = [(one, *_fixed_and_each(one, money)) for one in shown]
    stops = (most / 1.3 / 10, most / 1.3, 10 * most / 1.3)
    return Figure(
        name="monthly",
        title="Dollars a month over volume",
        summary=_monthly_in_words(report, lines, volume, even),
        head=("candidate", "fixed, $ a month", *(f"at {stop:,.0f} requests" for stop in stops)),
        rows=tuple(
            (one.label, amounts.dollars(fixed), *(amounts.dollars(fixed + each * stop) for stop in stops))
            for one, fixed, each in lines
        ),
        draw=lambda width: _draw_monthly(width, most, volume, even, lines),
        key=f"Fixed: hosting, and what fitting cost over {counted(months, 'month', 'g')}, a fine-tune's over the life "
        "it has left. Dashed: not certified. Numbers are the candidates'.",
    )


def _priced(one: Named, money: Mapping[str, Any]) -> bool:
    """Whether every dollar is known; an unknown one is not drawn as zero."""
    known = [
        one.found["usd_per_1k_requests"],
        one.found["fit"]["usd"],
        *money.get("bills", {}).get(one.id, {}).values(),
    ]
    return None not in known


def _fixed_and_each(one: Named, money: Mapping[str, Any]) -> tuple[float, float]:
    """Dollars a month whatever the volume, and of each request; reports of before had no bills."""
    months, bill = money["months"] or 12.0, money.get("bills", {}).get(one.id)
    if bill is None:
        return one.found["fit"]["usd"] / months, one.found["usd_per_1k_requests"] / 1000
    return bill["fixed_usd_per_month"] + bill["once_usd"] / (bill["months"] or months), bill["usd_per_request"]


def _monthly_in_words(
    report: Mapping[str, Any], lines: Sequence[tuple[Named, float, float]], volume: float | None, even: float | None
) -> str:
    text = "Dollars a month, serving and what fitting cost spread over the horizon."
    enough = [line for line in lines if line[0].found["status"] == "certified"]
    if volume is not None and enough:
        one, fixed, each = min(enough, key=lambda line: line[1] + line[2] * volume)
        asked = counted(volume, "request", ",.0f")
        text += f" At {asked} a month {one.short} costs {amounts.dollars(fixed + each * volume)}"
        text += ", the least of those certified." if len(enough) > 1 else "."
    if even is not None:
        text += f" The tuned candidate pays from {counted(even, 'request', ',.0f')} a month on."
    return text


def _draw_monthly(
    width: int, most: float, volume: float | None, even: float | None, lines: Sequence[tuple[Named, float, float]]
) -> Spec:
    ends = [fixed + each * most for _, fixed, each in lines]
    top = max(ends) or 1.0
    heights = spread(ends, 13 / _HEIGHT * top)
    rows = [
        {"name": one.label, "volume": at, "usd": fixed + each * at, **_line(one)}
        for one, fixed, each in lines
        for at in (0.0, most)
    ]
    names = [
        {"volume": most, "usd": height, "text": str(one.number)}
        for (one, _, _), height in zip(lines, heights, strict=True)
    ]
    across = vega.number("volume", "requests a month", domain=[0, most], format=_counting(most), tickCount=4)
    up = vega.number("usd", "$ a month", domain=[0, max(top, *heights) * 1.03], format=_paying(top), tickCount=5)
    marks = [(volume, "your volume")] if volume is not None else []
    marks += [(even, "break-even")] if even is not None and even <= most else []
    return vega.layered(
        width,
        _HEIGHT,
        *(layer for at, text in marks for layer in vega.mark_at(at, text)),
        vega.layer(
            "line",
            rows,
            {"strokeWidth": 1.8},
            x=across,
            y=up,
            detail=vega.words("name"),
            color=vega.colour("colour"),
            strokeDash={"field": "dash", "type": "nominal", "scale": None, "legend": None},
        ),
        vega.layer("text", names, {"align": "left", "dx": 4}, x=across, y=up, text=vega.words("text")),
    )


def _counting(most: float) -> str:
    """Format of an axis of counts (d3-format): thousands in full, more by k and M."""
    return ",d" if most < 100_000 else "~s"


def _paying(most: float) -> str:
    """Format of an axis of dollars: cents where there are few dollars."""
    return "$.2~f" if most < 10 else "$,.0f" if most < 100_000 else "$~s"


def _line(one: Named) -> dict[str, Any]:
    """Solid where the target is met."""
    solid = one.found["status"] == "certified"
    return {"colour": vega.ACCENT if one.picked else vega.PLAIN, "dash": [1, 0] if solid else [3, 3]}
