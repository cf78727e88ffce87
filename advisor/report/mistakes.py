"""What a tuned model still gets wrong, as sentences and rows that report.md and report.html both show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLE = "What the tuned model still gets wrong"
CLUSTER_HEAD = ("like these", "wrong", "wrong of dev this near", "train like them", "add", "for instance")
CLASS_HEAD = ("label", "recall on dev", "dev samples", "train samples", "mostly taken for", "add")
PAIR_HEAD = ("target", "answered", "times on dev")
_SHOWN = 80
"""Characters of an example."""


def errors_of(report: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The wrong answers of the tuned model that the report is about; None where nobody looked."""
    escalation = report["escalation"]
    found: Mapping[str, Any] | None = None if escalation is None else escalation.get("errors")
    return found


def sentences(errors: Mapping[str, Any]) -> list[str]:
    """What was counted, why there are no groups, and what to add."""
    dev, test = errors["dev"], errors["test"]
    counted = (
        f"On dev {dev['wrong']} of {dev['n']} answers are wrong{_failed(dev)}; they are what is grouped here. On test "
        f"it is {test['wrong']} of {test['n']}{_failed(test)}: these are only counted, so that test stays a test after "
        "the data are added to."
    )
    return [counted, *([errors["note"]] if errors["note"] else []), *errors["advice"]]


def cluster_rows(errors: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a group of inputs."""
    return [
        (
            one["name"],
            str(one["failures"]),
            f"{one['near_wrong']} of {one['near_dev']}",
            str(one["near_train"]),
            f"about {one['add']}" if one["add"] else "-",
            _example(one["examples"][0]),
        )
        for one in errors["clusters"]
    ]


def class_rows(errors: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a class."""
    return [
        (
            one["label"],
            f"{one['recall']:.2f} ({one['low']:.2f}-{one['high']:.2f})",
            str(one["n"]),
            str(one["train"]),
            one["taken_for"],
            f"about {one['add']}",
        )
        for one in errors["classes"]
    ]


def pair_rows(errors: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a confusion."""
    return [(one["target"], one["answer"], str(one["count"])) for one in errors["confusions"]]


def _failed(counts: Mapping[str, Any]) -> str:
    return f" and {counts['failed']} failed" if counts["failed"] else ""


def _example(example: Mapping[str, Any]) -> str:
    return f"{example['sample_id']}: “{_cut(example['input'])}” answered “{_cut(example['answer'])}”"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
