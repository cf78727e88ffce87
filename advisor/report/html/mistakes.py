"""The tuned model's wrong answers on the page: what to add to the data, and the groups behind it, folded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advisor.report import mistakes
from advisor.report.html.markup import Markup, bullets, folded, table


def tuned_mistakes(report: Mapping[str, Any]) -> Markup | None:
    """None where nobody looked."""
    errors = mistakes.errors_of(report)
    if errors is None:
        return None
    tables = [
        table(caption, head, rows, numbers_from=len(head))
        for caption, head, rows in (
            ("Inputs that are alike", mistakes.CLUSTER_HEAD, mistakes.cluster_rows(errors)),
            ("Classes found least", mistakes.CLASS_HEAD, mistakes.class_rows(errors)),
            ("What is taken for what", mistakes.PAIR_HEAD, mistakes.pair_rows(errors)),
        )
        if rows
    ]
    return folded(mistakes.TITLE, bullets(mistakes.sentences(errors)), *tables)
