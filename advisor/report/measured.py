"""Sentences on what the figures of a report hold, for all its forms. Each is empty where there is nothing to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def unsettled(report: Mapping[str, Any]) -> str:
    """What of the spending is not known to have been billed; runs stored before this was noted know of none."""
    usd = report["spent"].get("unsettled_usd") or 0.0
    if not usd:
        return ""
    return (
        f"${usd:.4g} of what was spent may have been billed and is not known to be: calls that were under way when the "
        "process was killed, or batches that went on."
    )


def notes(report: Mapping[str, Any]) -> list[str]:
    """What backends say of the figures; runs stored before this was noted say nothing."""
    return [*report.get("notes", ()), *filter(None, [unsettled(report), first_tokens(report)])]


def first_tokens(report: Mapping[str, Any]) -> str:
    """Median seconds until answers began, of the candidates that tell."""
    known = [(one["id"], one["seconds"].get("first_token_p50")) for one in report["candidates"]]
    listed = [f"{name} {seconds:.3g} s" for name, seconds in known if seconds is not None]
    return f"Median time to the first token: {', '.join(listed)}." if listed else ""
