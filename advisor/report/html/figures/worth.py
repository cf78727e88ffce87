"""What a fine-tune is worth, and which assumption that hangs on most: a tornado of the net present value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advisor.report.html import amounts, vega
from advisor.report.html.figures.figure import Figure
from advisor.report.html.vega import Spec
from advisor.tuning.investment import Investment, expected_usd

_LOW, _HIGH = "lower value", "higher value"


def worth(report: Mapping[str, Any]) -> Figure | None:
    """Mean net present value as each assumption takes its low and its high value; None where none was computed."""
    found = report["economics"]["net_present_value"]
    if not found or not found.get("drivers"):
        return None
    first = found["drivers"][0]
    return Figure(
        name="worth",
        title="What the fine-tune is worth",
        summary=f"Net present value of {found['candidate']} against {found['against']}: "
        f"{amounts.dollars(found['mean'])} on average, {amounts.dollars(found['p5'])} to "
        f"{amounts.dollars(found['p95'])} in nine cases of ten, positive with probability "
        f"{amounts.share(found['p_positive'])}. It hangs most on {_name(first)}.{_pilot(found)}",
        head=("assumption", "low", "high", "$ at low", "$ at high"),
        rows=tuple(
            (
                _name(driver),
                f"{driver['low']:.4g}",
                f"{driver['high']:.4g}",
                amounts.dollars(driver["usd_at_low"]),
                amounts.dollars(driver["usd_at_high"]),
            )
            for driver in found["drivers"]
        ),
        draw=lambda width: _draw(width, found["drivers"], expected_usd(Investment(**found["assumptions"]))),
        key="Each assumption by itself at half and twice its value, others left alone. The data name the values.",
    )


def _pilot(found: Mapping[str, Any]) -> str:
    """What a pilot may cost; reports of before do not say."""
    most = found.get("pilot_worth_usd")
    return f" A pilot that settles whether it comes off may cost {amounts.dollars(most)}." if most and most > 0 else ""


def _name(driver: Mapping[str, Any]) -> str:
    return amounts.words(driver["name"]).replace("usd", "$")


def _draw(width: int, drivers: Sequence[Mapping[str, Any]], meet: float) -> Spec:
    """`meet`: dollars with every assumption as it is, where all bars begin."""
    ends = [driver[end] for driver in drivers for end in ("usd_at_low", "usd_at_high")]
    rows = [
        {"name": _name(driver), "from": meet, "to": driver[end], "end": title}
        for driver in drivers
        for end, title in (("usd_at_low", _LOW), ("usd_at_high", _HIGH))
    ]
    across = vega.number("from", "$ of net present value", domain=vega.domain([0.0, *ends]), format="$~s", tickCount=4)
    colours = {_LOW: vega.SERIES[2], _HIGH: vega.SERIES[0]}
    return vega.layered(
        width,
        vega.ROW * len(drivers),
        vega.layer(
            "bar",
            rows,
            {"height": 13},
            x=across,
            x2={"field": "to"},
            y=vega.row("name", [_name(driver) for driver in drivers]),
            color=vega.category("end", colours),
        ),
        *vega.mark_at(0.0, "0"),
    )
