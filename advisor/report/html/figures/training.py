"""The learning curve of a fine-tune: the pilot's points, what was forecast from them, and what was reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advisor.report.html import amounts, vega
from advisor.report.html.figures.figure import Figure
from advisor.report.html.vega import Spec
from advisor.report.teaching import learnt_from
from backends.wording import counted

_HEIGHT = 230


def learning_curve(report: Mapping[str, Any]) -> Figure | None:
    """Dev scores over train samples; None where no pilot was made and nothing was tuned."""
    escalation = report["escalation"]
    if escalation is None:
        return None
    points = [run for run in escalation["pilot"] if run["score"] is not None]
    tuned, forecast = escalation["tuned"], escalation["forecast"]
    reached = None if tuned is None else tuned["dev_score"]
    if not points and reached is None:
        return None
    whole = learnt_from(report["scenario"], escalation.get("teaching"))
    rows = [(f"pilot, {run['fraction']:.0%}", run["samples"], amounts.score(run["score"])) for run in points]
    rows += _forecast_rows(forecast, whole)
    if reached is not None:
        rows.append(("reached", whole, amounts.score(reached)))
    before = None if tuned is None else tuned["best_dev_score_before"]
    if before is not None:
        rows.append(("best without training", 0, amounts.score(before)))
    return Figure(
        name="learning",
        title="Learning curve",
        summary=_in_words(points, forecast, reached, before),
        head=("what", "train samples", "score on dev"),
        rows=tuple((what, f"{samples:,}", score) for what, samples, score in rows),
        draw=lambda width: _draw(width, report, points),
        key="Filled: measured on dev; bar: 90 % interval of the forecast; diamond: reached.",
    )


def _forecast_rows(forecast: Mapping[str, Any] | None, whole: int) -> list[tuple[str, int, str]]:
    if forecast is None:
        return []
    more = forecast["with_more_data"]
    return [
        (what, round(found["multiple"] * whole), f"{found['score']:.3f} ({found['low']:.3f}–{found['high']:.3f})")
        for what, found in (("forecast", forecast), ("forecast with more data", more))
    ]


def _in_words(
    points: list[Mapping[str, Any]], forecast: Mapping[str, Any] | None, reached: float | None, before: float | None
) -> str:
    parts = [f"{amounts.score(run['score'])} from {counted(run['samples'], 'train sample', ',')}" for run in points]
    text = f"Score on dev: {', '.join(parts)}." if parts else "Score on dev."
    if forecast is not None:
        text += (
            f" Forecast for all: {forecast['score']:.3f} ({forecast['low']:.3f} to {forecast['high']:.3f}), with a "
            f"chance of {amounts.share(forecast['p_reach'])} to reach {forecast['wanted']:.3f}."
        )
    if reached is not None:
        text += f" Reached: {amounts.score(reached)}."
    if before is not None:
        text += f" Best without training: {amounts.score(before)}."
    return text


def _draw(width: int, report: Mapping[str, Any], points: list[Mapping[str, Any]]) -> Spec:
    escalation = report["escalation"]
    whole = learnt_from(report["scenario"], escalation.get("teaching"))
    forecast, tuned = escalation["forecast"], escalation["tuned"]
    measured = [{"samples": run["samples"], "score": run["score"]} for run in points]
    reached = [{"samples": whole, "score": tuned["dev_score"]}] if tuned and tuned["dev_score"] is not None else []
    expected = [{"samples": whole, **{end: forecast[end] for end in ("low", "score", "high")}}] if forecast else []
    wanted = forecast["wanted"] if forecast else report["goal"]["target"]
    before = [tuned["best_dev_score_before"]] if tuned and tuned["best_dev_score_before"] is not None else []
    values = [row["score"] for row in (*measured, *reached, *expected)] + [wanted, *before]
    values += [row[end] for row in expected for end in ("low", "high")]
    across = vega.number("samples", "train samples", domain=[0, 1.12 * whole], format="~s", tickCount=4)
    up = vega.number("score", "score on dev", domain=vega.domain(values, 0.0, 1.0))
    low = {"field": "low", "type": "quantitative", "title": "score on dev"}
    solid = {"filled": True, "size": 65, "opacity": 1}
    return vega.layered(
        width,
        _HEIGHT,
        *vega.mark_at(wanted, f"wanted {wanted:.3g}", axis="y"),
        *([_before(before[0])] if before else []),
        vega.layer(
            "rule",
            expected,
            {"strokeWidth": 7, "opacity": 0.3, "color": vega.ACCENT},
            x=across,
            y=low,
            y2={"field": "high"},
        ),
        vega.layer(
            "point", expected, {"filled": False, "size": 60, "opacity": 1, "color": vega.ACCENT}, x=across, y=up
        ),
        vega.layer("line", measured, {"strokeWidth": 1.5, "color": vega.PLAIN}, x=across, y=up),
        vega.layer("point", measured, {**solid, "color": vega.PLAIN}, x=across, y=up),
        vega.layer("point", reached, {**solid, "shape": "diamond", "size": 100, "color": vega.ACCENT}, x=across, y=up),
    )


def _before(score: float) -> Spec:
    rule = {"color": vega.MUTED, "strokeDash": [1, 3]}
    return vega.layer("rule", [{"score": score}], rule, y={"field": "score", "type": "quantitative"})
