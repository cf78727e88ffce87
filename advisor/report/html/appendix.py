"""Tables that some readers want: steps, retrieval, pairs, fine-tuning, examples of failures, what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advisor.report import foreseen, money, teaching
from advisor.report.html import amounts
from advisor.report.html.markup import Child, Markup, bullets, folded, table
from advisor.report.html.mistakes import tuned_mistakes
from advisor.report.html.names import Named


def appendix(report: Mapping[str, Any], candidates: Sequence[Named]) -> list[Markup]:
    """Those that this run has something to show in, folded."""
    found = (
        _pairs(report),
        _steps(candidates),
        _retrieval(candidates),
        _failures(candidates),
        _tuning(report["escalation"]),
        tuned_mistakes(report),
        _folded(money.BILLS_TITLE, money.BILLS_HEAD, money.bill_rows(report)),
        _folded(money.ASSUMPTIONS_TITLE, money.ASSUMPTIONS_HEAD, money.assumption_rows(report), 5),
        _folded(foreseen.TITLE, foreseen.HEAD, foreseen.foreseen_rows(report), 1),
        _techniques(report),
    )
    return [part for part in found if part is not None]


def _folded(title: str, head: Sequence[str], rows: Sequence[Sequence[Child]], numbers_from: int = 1) -> Markup | None:
    return folded(title, table(title, head, rows, numbers_from=numbers_from)) if rows else None


def _pairs(report: Mapping[str, Any]) -> Markup | None:
    rows = [
        (
            pair["a"],
            pair["b"],
            f"{pair['difference']:+.3f}",
            f"{pair['low']:+.3f} to {pair['high']:+.3f}",
            f"{pair['p_holm']:.2g}",
        )
        for pair in report["comparisons"]
    ]
    return _folded("Pairs on the same samples", ("a", "b", "a − b", "interval", "p (Holm)"), rows, 2)


def _steps(candidates: Sequence[Named]) -> Markup | None:
    rows = [
        (
            one.label,
            step["name"],
            amounts.share(step["share"]),
            f"{step['input_tokens']:.0f} + {step['output_tokens']:.0f}",
            amounts.dollars(step["usd_per_1k_requests"]),
            amounts.seconds(step["seconds"]),
        )
        for one in candidates
        for step in one.found["steps"]
    ]
    head = ("candidate", "step", "of requests", "tokens in + out", "$ per 1,000", "time")
    return _folded("Steps of one request", head, rows, 2)


def _retrieval(candidates: Sequence[Named]) -> Markup | None:
    found = [(one.label, one.found["retrieval"]) for one in candidates if one.found["retrieval"]]
    if not found:
        return None
    head = ("candidate", *(amounts.words(name) for name in found[0][1]))
    return _folded("Retrieval against gold documents", head, [(name, *map(_figure, q.values())) for name, q in found])


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else amounts.NONE if value is None else str(value)


def _failures(candidates: Sequence[Named]) -> Markup | None:
    rows = [
        (
            one.label,
            amounts.words(cause["cause"]),
            example["input"],
            example["target"],
            amounts.NONE if example["answer"] is None else example["answer"],
        )
        for one in candidates
        for cause in one.found["diagnosis"]
        for example in cause.get("examples", ())
    ]
    return _folded("Examples of failures", ("candidate", "cause", "input", "target", "answer"), rows, 5)


def _tuning(escalation: Mapping[str, Any] | None) -> Markup | None:
    if escalation is None:
        return None
    lines = [escalation["reason"], *teaching.told(escalation.get("teaching")), *_training(escalation["tuned"])]
    return folded(f"Fine-tuning: {amounts.words(escalation['decision'])}", bullets(lines))


def _training(tuned: Mapping[str, Any] | None) -> list[str]:
    if tuned is None:
        return []
    losses = [loss for _, loss in tuned["losses"]]
    fell = f"; training loss {losses[0]:.3f} at the start, {losses[-1]:.3f} at the end" if losses else ""
    recipe = ", ".join(f"{name} {value}" for name, value in tuned["recipe"].items())
    return [
        f"{tuned['model']}: {tuned['trained_tokens']:,} tokens in {amounts.seconds(tuned['seconds'])} for "
        f"{amounts.dollars(tuned['cost_usd'])}{fell}.",
        *([f"Recipe: {recipe}."] if recipe else []),
    ]


def _techniques(report: Mapping[str, Any]) -> Markup | None:
    rows = [(one["technique"], "tried", one["reason"]) for one in report["chosen"]]
    rows += [(one["technique"], "left out", one["reason"]) for one in report["left_out"]]
    return _folded("What was tried and what was left out", ("technique", "", "why"), rows, 3)
