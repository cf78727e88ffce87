"""What was estimated when a run began, next to what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advisor.advice.phrases import dollars
from backends.wording import counted

TITLE = "Estimate and bill"
HEAD = ("candidate", "$ per 1,000 as estimated", "as measured")


def foreseen_sentence(report: Mapping[str, Any]) -> str:
    """Dollars in all, estimated and spent; empty for a run of which nothing was estimated."""
    estimate, spent = report["estimate"], report["spent"]
    if estimate is None or estimate["usd"] is None:
        return ""
    ends = f"{dollars(estimate['usd_low'])} to {dollars(estimate['usd_high'])}"
    text = f"Before it began, {dollars(estimate['usd'])} were estimated ({ends}); it took {dollars(spent['usd'])}"
    reused = spent["cached_requests"]
    return f"{text}, with {counted(reused, 'answer', ',')} from the cache." if reused else f"{text}."


def foreseen_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What a request of each candidate was expected to cost, and did."""
    known = {one["id"]: one["usd_per_1k_requests"] for one in (report["estimate"] or {}).get("candidates", ())}
    return [
        (one["id"], _range(known[one["id"]]), dollars(one["usd_per_1k_requests"]))
        for one in report["candidates"]
        if known.get(one["id"]) is not None and one["tokens_per_request"]["input"] is not None
    ]


def _range(span: Mapping[str, float]) -> str:
    return f"{dollars(span['expected'])} ({dollars(span['low'])} to {dollars(span['high'])})"
