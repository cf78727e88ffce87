"""Where answers go wrong: which labels are taken for which, and the causes that a diagnosis found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from advisor.report.html import amounts, vega
from advisor.report.html.evidence import Evidence
from advisor.report.html.figures.figure import Figure
from advisor.report.html.names import Named, best
from advisor.report.html.vega import Spec
from backends.wording import counted

_MOST_LABELS = 12
_OTHER = "(other)"
"""An answer that is none of the labels shown."""
_MOST_DIAGNOSED = 4
_DEEPEST = 0.36
"""Opacity of a cell that holds its whole row: figures stay readable on it, in light and dark."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each target got each answer."""

    labels: tuple[str, ...]
    """Those shown, in the order of the scenario."""
    answers: tuple[str, ...]
    """The same, and `(other)` where it occurs."""
    counts: Counter[tuple[str, str]]
    """(target, answer) -> trials."""


def confusion(candidates: Sequence[Named], evidence: Evidence) -> Figure | None:
    """What the best candidate takes for what, where answers are labels."""
    leader = best(candidates)
    if leader is None or not evidence.labels:
        return None
    pairs = _pairs(leader, evidence)
    if not pairs:
        return None
    found = tabulated(pairs, evidence.labels)
    wrong = Counter({pair: n for pair, n in Counter(pairs).items() if pair[0] != pair[1]})
    worst = "".join(f" Most often {a} is answered as {b}, {counted(n, 'time')}." for (a, b), n in wrong.most_common(1))
    part = f" Drawn: the {len(found.labels)} labels with most confusions." * (len(found.labels) < len(evidence.labels))
    return Figure(
        name="confusion",
        title="What is taken for what",
        summary=f"Targets against answers of {leader.short} on {counted(len(pairs), 'test sample', ',')}; "
        f"{wrong.total():,} of them differ.{worst}{part}",
        head=("target", *found.answers),
        rows=tuple(
            (target, *(str(found.counts[target, answer]) for answer in found.answers)) for target in found.labels
        ),
        draw=lambda width: _draw_confusion(width, found),
        key="Rows are targets; the diagonal is right.",
    )


def _pairs(leader: Named, evidence: Evidence) -> list[tuple[str, str]]:
    known = {label.casefold(): label for label in evidence.labels}
    pairs = []
    for trial in evidence.of(leader.id):
        sample = evidence.samples.get(("test", trial.sample_id))
        if sample is not None and sample.target in evidence.labels and trial.output is not None:
            answer = sample.target if evidence.right(trial) else known.get(trial.output.strip().casefold(), _OTHER)
            pairs.append((sample.target, answer))
    return pairs


def tabulated(pairs: Sequence[tuple[str, str]], labels: Sequence[str]) -> Confusion:
    """Counts for at most twelve labels: those that are most often confused, in their own order."""
    troubled: Counter[str] = Counter()
    for target, answer in pairs:
        if target != answer:
            troubled.update({target: 1, answer: 1})
    ranked = sorted(labels, key=lambda label: -troubled[label])[:_MOST_LABELS]
    shown = tuple(label for label in labels if label in ranked)
    counts = Counter((target, answer if answer in shown else _OTHER) for target, answer in pairs if target in shown)
    other = any(answer == _OTHER for _, answer in counts)
    return Confusion(shown, (*shown, _OTHER) if other else shown, counts)


def _draw_confusion(width: int, found: Confusion) -> Spec:
    totals = Counter[str]()
    for (target, _), n in found.counts.items():
        totals[target] += n
    rows = [
        {
            "target": target,
            "answer": answer,
            "n": str(n),
            "share": 0.06 + _DEEPEST * n / totals[target],
            "fill": vega.ACCENT if target == answer else vega.TARGET,
        }
        for (target, answer), n in found.counts.items()
    ]
    across = {
        "field": "answer",
        "type": "nominal",
        "sort": list(found.answers),
        "scale": {"domain": list(found.answers)},
        "axis": {"title": "answer", "labelAngle": -40, "labelLimit": 110, "ticks": False, "domain": False},
    }
    down = vega.row("target", found.labels)
    down["axis"] = {**down["axis"], "labelLimit": 110}
    opacity = {"field": "share", "type": "quantitative", "scale": None, "legend": None}
    cell = {"stroke": vega.SURFACE, "strokeWidth": 1.5}
    return vega.layered(
        width,
        20 * len(found.labels),
        vega.layer("rect", rows, cell, x=across, y=down, fill=vega.colour("fill"), fillOpacity=opacity),
        vega.layer("text", rows, {"fontSize": 10}, x=across, y=down, text=vega.words("n")),
    )


def diagnosis(candidates: Sequence[Named]) -> Figure | None:
    """Causes of the failures of the candidates that came nearest."""
    diagnosed = [one for one in candidates if one.found["diagnosis"]]
    if not diagnosed:
        return None
    nearest = sorted(diagnosed, key=lambda one: -(one.found["mean_score"] or 0.0))[:_MOST_DIAGNOSED]
    first = nearest[0]
    main = max(first.found["diagnosis"], key=lambda cause: cause["share"])
    drawn = [one for one in candidates if one in nearest]
    return Figure(
        name="diagnosis",
        title="Why answers are wrong",
        summary=f"Causes of failures, found by trying what would cure them. Of {first.short}: "
        f"{amounts.words(main['cause'])} explains {amounts.share(main['share'])}.",
        head=("candidate", "cause", "of its failures", "95 % interval", "points to"),
        rows=tuple(
            (
                one.label,
                amounts.words(cause["cause"]),
                amounts.share(cause["share"]),
                f"{amounts.share(cause['low'])} to {amounts.share(cause['high'])}",
                ", ".join(cause["points_to"]) or amounts.NONE,
            )
            for one in diagnosed
            for cause in one.found["diagnosis"]
        ),
        draw=lambda width: _draw_diagnosis(width, drawn),
        key="Thin lines are 95 % intervals."
        + f" Drawn: the {_MOST_DIAGNOSED} that came nearest to the target." * (len(diagnosed) > _MOST_DIAGNOSED),
    )


def _draw_diagnosis(width: int, drawn: Sequence[Named]) -> Spec:
    rows = [
        {
            "name": f"{one.number} {amounts.words(cause['cause'])}",
            "share": cause["share"],
            "low": cause["low"],
            "high": cause["high"],
            "text": amounts.share(cause["share"]),
        }
        for one in drawn
        for cause in one.found["diagnosis"]
    ]
    across = vega.number("share", "share of failures", domain=[0, 1.12], format="%", values=[0, 0.25, 0.5, 0.75, 1])
    down = vega.row("name", [row["name"] for row in rows])
    ends = {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}}
    return vega.layered(
        width,
        22 * len(rows),
        vega.layer("bar", rows, {"height": 11, "color": vega.SERIES[0]}, x=across, y=down),
        vega.layer("rule", rows, {"color": vega.INK, "strokeWidth": 1}, **ends, y=down),
        vega.layer(
            "text",
            rows,
            {"align": "left", "dx": 5, "color": vega.MUTED},
            x={"field": "high", "type": "quantitative"},
            y=down,
            text=vega.words("text"),
        ),
    )
