"""The climb: the running mean of each candidate over the samples it was asked, and the boundaries it had to cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advisor.contender import rules_for
from advisor.goal import Goal
from advisor.report.html import amounts, vega
from advisor.report.html.evidence import Evidence
from advisor.report.html.figures.figure import Figure
from advisor.report.html.figures.placing import spread
from advisor.report.html.names import MARKS, Named
from advisor.report.html.vega import Spec
from backends.wording import counted
from evals.statistics.binary import BinaryTest

_HEIGHT = 230
_MOST_POINTS = 120
"""Of one path; more cannot be seen."""
_SETTLED = 5
"""Samples from which on a running mean is worth drawing."""


@dataclass(frozen=True, slots=True)
class Path:
    """The running mean of one candidate."""

    one: Named
    counts: tuple[int, ...]
    means: tuple[float, ...]


def climb(report: Mapping[str, Any], candidates: Sequence[Named], evidence: Evidence) -> Figure | None:
    """Who was asked how many samples, and where each path left the region of doubt."""
    paths = [path for one in candidates if (path := _path(one, evidence)) is not None]
    if not paths or not evidence.order:
        return None
    edges = _boundaries(report, evidence)
    return Figure(
        name="climb",
        title="The climb",
        summary=_in_words(paths, len(candidates)),
        head=("candidate", "samples asked", "mean in the end", "status", "seconds of evaluation", "$ of evaluation"),
        rows=tuple(
            (
                path.one.label,
                f"{path.counts[-1]:,}",
                amounts.score(path.means[-1]),
                path.one.status,
                amounts.seconds(path.one.found["evaluation"]["seconds"]),
                amounts.dollars(path.one.found["evaluation"]["usd"]),
            )
            for path in paths
        ),
        draw=lambda width: _draw(width, report["goal"]["target"], paths, edges),
        key="Shaded: not decided yet; above it a candidate is certified, below it given up. " * bool(edges)
        + "Numbers are those of the candidates.",
    )


def _in_words(paths: Sequence[Path], candidates: int) -> str:
    asked = sum(path.counts[-1] for path in paths)
    picked = next((path for path in paths if path.one.picked), None)
    some = f"{len(paths)} of {counted(candidates, 'candidate')}"
    text = f"Running mean score over test samples: {asked:,} asked in all, of {some}."
    if picked is None:
        return text
    return f"{text} {picked.one.short} was {picked.one.status} after {picked.counts[-1]:,}."


def _path(one: Named, evidence: Evidence) -> Path | None:
    """Means of the scores there are after each sample; errors score nothing and are counted apart."""
    scores = [trial.score.value for trial in evidence.of(one.id) if trial.score is not None]
    if not scores:
        return None
    means = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    first = min(_SETTLED, len(scores))
    drawn = np.unique(np.linspace(first, len(scores), _MOST_POINTS).astype(int))
    return Path(one, tuple(int(n) for n in drawn), tuple(float(means[n - 1]) for n in drawn))


def _boundaries(report: Mapping[str, Any], evidence: Evidence) -> list[dict[str, float]]:
    """Mean scores between which the test of one candidate goes on, at each of its looks; only where they are exact."""
    levels = [entry["alpha"] for entry in report["alpha_ledger"]]
    clustered = any(sample.group is not None for sample in evidence.order)
    if report["kind"] != "run" or not evidence.binary or not levels or clustered:
        return []
    rules = rules_for(Goal(**report["goal"]), len(evidence.order), levels[0], binary=True, groups=None)
    if not isinstance(rules.quality, BinaryTest):
        return []
    design = rules.quality.design
    return [
        {"n": look, "low": max(0.0, given_up / look), "high": min(1.0, certify / look)}
        for look, given_up, certify in zip(design.looks, design.give_up, design.certify, strict=True)
    ]


def _draw(width: int, target: float, paths: Sequence[Path], edges: Sequence[dict[str, float]]) -> Spec:
    longest = max(path.counts[-1] for path in paths)
    seen = [edge for edge in edges if edge["n"] <= longest] or list(edges[:1])
    means = [mean for path in paths for mean in path.means] + [target]
    heights = vega.domain(means, 0.0, 1.0)
    clipped = [
        {"n": edge["n"], "low": max(heights[0], edge["low"]), "high": min(heights[1], edge["high"])} for edge in seen
    ]
    rows = [
        {"name": path.one.label, "n": n, "mean": mean, "colour": _colour(path.one)}
        for path in paths
        for n, mean in zip(path.counts, path.means, strict=True)
    ]
    across = vega.number("n", "test samples asked of a candidate", domain=[0, 1.08 * longest], format="~s", tickCount=4)
    up = vega.number("mean", "mean score so far", domain=heights)
    return vega.layered(
        width,
        _HEIGHT,
        vega.layer(
            "area",
            clipped,
            {"color": vega.TARGET, "opacity": 0.13},
            x=across,
            y={"field": "low", "type": "quantitative", "title": "mean score so far"},
            y2={"field": "high"},
        ),
        *vega.mark_at(target, f"target {target:g}", axis="y"),
        vega.layer(
            "line",
            rows,
            {"strokeWidth": 1.6},
            x=across,
            y=up,
            detail=vega.words("name"),
            color=vega.colour("colour"),
        ),
        vega.layer("text", _ends(paths, heights), {"align": "left", "dx": 4}, x=across, y=up, text=vega.words("text")),
    )


def _ends(paths: Sequence[Path], heights: Sequence[float]) -> list[dict[str, Any]]:
    """Numbers of the candidates at the ends of their paths; those that end near each other are moved apart."""
    apart = 13 / _HEIGHT * (heights[1] - heights[0])
    last = {}
    for length in {path.counts[-1] for path in paths}:
        together = [path for path in paths if path.counts[-1] == length]
        moved = spread([path.means[-1] for path in together], apart)
        last.update({path.one.id: height for path, height in zip(together, moved, strict=True)})
    return [
        {
            "n": path.counts[-1],
            "mean": last[path.one.id],
            "text": f"{path.one.number} {MARKS[path.one.found['status']]}",
        }
        for path in paths
    ]


def _colour(one: Named) -> str:
    return vega.ACCENT if one.picked else vega.PLAIN
