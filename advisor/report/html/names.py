"""What candidates are called on the page: a number that pictures can carry, a short name, and how each stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advisor.report.html.amounts import words

MARKS: Mapping[str, str] = {
    "certified": "✓",
    "eliminated": "✗",
    "hopeless": "✗",
    "failed": "!",
    "unresolved": "?",
    "not_needed": "○",
    "skipped": "○",
}
"""How a candidate stands, as a sign that needs no colour."""
LEGEND = "✓ certified, ✗ ruled out, ? undecided, ! failed, ○ not tested"


@dataclass(frozen=True, slots=True)
class Named:
    """One candidate and its names."""

    number: int
    """From 1, in climbing order."""
    short: str
    """The technique; with the end of the model's name where there are several models."""
    found: Mapping[str, Any]
    """Its entry in the report."""
    picked: bool

    @property
    def id(self) -> str:
        """The full name."""
        return str(self.found["id"])

    @property
    def label(self) -> str:
        """Number and short name."""
        return f"{self.number} {self.short}"

    @property
    def marked(self) -> str:
        """The label with the sign of how it stands."""
        return f"{self.label} {MARKS[self.found['status']]}"

    @property
    def status(self) -> str:
        """How it stands, in words."""
        return words(self.found["status"])

    @property
    def tested(self) -> bool:
        """Whether test samples were run."""
        return bool(self.found["n"]) and self.found["mean_score"] is not None


def named(report: Mapping[str, Any]) -> list[Named]:
    """All candidates of a report, in its order."""
    found: Sequence[Mapping[str, Any]] = report["candidates"]
    one_model = len({candidate["model"] for candidate in found}) == 1
    return [
        Named(number, _short(candidate, one_model), candidate, candidate["id"] == report["pick"])
        for number, candidate in enumerate(found, start=1)
    ]


def best(candidates: Sequence[Named]) -> Named | None:
    """The pick, else the tested candidate with the highest score."""
    tested = [one for one in candidates if one.tested]
    return max(tested, key=lambda one: (one.picked, one.found["mean_score"]), default=None)


def _short(candidate: Mapping[str, Any], one_model: bool) -> str:
    # Ids are `technique(settings)@model`; settings tell two candidates of one technique apart.
    name = str(candidate["id"]).removesuffix(f"@{candidate['model']}")
    return name if one_model else f"{name} @ {candidate['model'].rpartition('/')[2]}"
