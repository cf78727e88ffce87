"""The figures of a report, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advisor.report.html.evidence import Evidence
from advisor.report.html.figures.climb import climb
from advisor.report.html.figures.figure import Figure
from advisor.report.html.figures.mistakes import confusion, diagnosis
from advisor.report.html.figures.quality import cost_against_score, scores
from advisor.report.html.figures.spending import latencies, monthly, tokens
from advisor.report.html.figures.training import learning_curve
from advisor.report.html.figures.worth import worth
from advisor.report.html.names import named


def figures(report: Mapping[str, Any], evidence: Evidence) -> list[Figure]:
    """Those that this run has something to show in."""
    candidates = named(report)
    found = (
        scores(report, candidates),
        cost_against_score(report, candidates),
        climb(report, candidates, evidence),
        latencies(report, candidates, evidence),
        tokens(candidates),
        monthly(report, candidates),
        learning_curve(report),
        worth(report),
        confusion(candidates, evidence),
        diagnosis(candidates),
    )
    return [figure for figure in found if figure is not None]
