"""What can be behind a failure, in which order it is held responsible, and what each cause points to."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

from backends.types import Usage

CauseName = Literal[
    "errors",
    "label_noise",
    "format",
    "retrieval",
    "tool_use",
    "chain",
    "noise",
    "reading",
    "knowledge",
    "calculation",
    "skill",
    "unexplained",
]

PRIORITY: tuple[CauseName, ...] = (
    "errors",
    "label_noise",
    "format",
    "retrieval",
    "tool_use",
    "chain",
    "noise",
    "reading",
    "knowledge",
    "calculation",
    "skill",
    "unexplained",
)
"""The first cause of this order that explains a failure gets it: what is cheapest to put right first, what a cure shows
before what is concluded from the lack of one, and last what nothing explains."""

LARGER_MODEL = "larger model"
"""Not a technique, yet a rung: the same technique on a stronger model."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a cause says, and what follows from it."""

    cause: CauseName
    shown_by: str
    """What was seen, as the end of the sentence "12 of 40 failures ..."."""
    points_to: tuple[str, ...]
    """Techniques (or a larger model) that can help."""
    cannot_help: tuple[str, ...]
    """Techniques that do not touch this cause."""
    advice: str


MEANINGS: dict[CauseName, Meaning] = {
    meaning.cause: meaning
    for meaning in (
        Meaning(
            "errors",
            "ended with an error instead of an answer",
            (),
            (),
            "Read the error texts in the report; a shorter context, a longer time limit or another endpoint cures "
            "errors, no technique does.",
        ),
        Meaning(
            "label_noise",
            "would be right by the target that near-identical train samples carry",
            (),
            ("fine_tune", "knn_few_shot", "few_shot", "optimized_prompt"),
            "Correct the labels: near-identical inputs carry different ones. Until then the target may be out of reach "
            "for every candidate, and a fine-tune would learn the contradiction.",
        ),
        Meaning(
            "format",
            "are right once the answer is read leniently",
            ("structured_output", "function_calling"),
            ("rag", "self_consistency"),
            "The answers are right and dressed wrongly: constrain them by `labels` or `output_schema`, or score them "
            "more leniently if your application could read them.",
        ),
        Meaning(
            "retrieval",
            "are right once the gold documents are given in place of a retrieval that missed one of them",
            ("rag", "rag+chain", "rag+knn_few_shot"),
            ("fine_tune", "few_shot", "optimized_prompt"),
            "The document with the answer was not found: try hybrid search, another chunk size, a larger top_k or a "
            "rerank model, and see whether documents and questions use different words.",
        ),
        Meaning(
            "tool_use",
            "are right once the gold tool results are given",
            ("function_calling",),
            ("rag",),
            "With the right tool results the answers are right: offer the tools, describe their arguments better, "
            "constrain the calls or show worked ones.",
        ),
        Meaning(
            "chain",
            "are right once the gold intermediate steps are given",
            ("chain", LARGER_MODEL),
            ("rag",),
            "With the right intermediate results the answers are right: declare steps that ask for these, or give the "
            "step at which errors begin a larger model.",
        ),
        Meaning(
            "noise",
            "are right when asked again at both other temperatures",
            ("self_consistency",),
            ("rag",),
            "The model mostly knows these answers: a vote over several samples should catch them.",
        ),
        Meaning(
            "reading",
            "stay wrong although the gold documents are read, or are right once these alone are read",
            ("rag+chain", LARGER_MODEL),
            ("rag",),
            "The document is there and is not understood, or drowned by others: fewer documents at a time, a step that "
            "first quotes the passage, or a larger model. More retrieval cannot help.",
        ),
        Meaning(
            "knowledge",
            "ask for a fact that neither the model nor the documents it was given hold",
            ("rag", "function_calling"),
            ("fine_tune", "self_consistency", "optimized_prompt"),
            "The model does not know these facts: give it documents that state them, or a tool that looks them up. "
            "Facts are no reason to fine-tune, least of all facts that change.",
        ),
        Meaning(
            "calculation",
            "ask for a number that has to be worked out, and nothing that was tried made them right",
            ("function_calling", "chain", LARGER_MODEL),
            ("rag",),
            "The number has to be calculated: offer a calculator as a tool, or let the model work in steps.",
        ),
        Meaning(
            "skill",
            "ask for an answer that examples can teach, and nothing that was tried made them right",
            ("knn_few_shot", "few_shot", "optimized_prompt", "fine_tune"),
            ("rag", "self_consistency"),
            "The task is not learnt from the prompt: show the examples nearest to each input, and if that falls short "
            "too, fine-tune.",
        ),
        Meaning(
            "unexplained",
            "were cured by nothing that was tried",
            (),
            (),
            "No ablation explains these: read the examples before spending on them.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Example:
    """One failure of a cause, to look at."""

    sample_id: str
    input: str
    target: str
    answer: str | None
    """None where an error left no answer."""
    gave: str
    """What was seen: the answer of the ablation, or the error."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One line of a candidate's diagnosis."""

    cause: CauseName
    share: float
    """Of the failures looked at; the shares of all causes add up to 1."""
    low: float
    """Of the share's 95 % interval (Wilson)."""
    high: float
    n: int
    """Failures looked at, those of other causes included."""
    evidence: str
    """One or two sentences with figures."""
    examples: tuple[Example, ...]
    """At most three."""
    sample_ids: tuple[str, ...]
    """All samples it was assigned to."""
    points_to: tuple[str, ...]
    """Techniques that can help."""
    cannot_help: tuple[str, ...]
    """Techniques that do not touch it."""
    advice: str


@dataclass(frozen=True, slots=True)
class Check:
    """One ablation: what it found and took, or why it was not made."""

    name: str
    asked: int
    """Failures it was tried on."""
    cured: int
    """How many of them became right."""
    note: str = ""
    """Why it was not made, or made in part."""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why one candidate fell short."""

    causes: tuple[Cause, ...]
    """Commonest first."""
    checks: tuple[Check, ...]
    usage: Usage
    """Of all ablations; evaluation, not serving."""
    seconds: float
    """Model seconds of all ablations."""
    n_failures: int
    n_looked_at: int
    """All failures, or a seeded sample of them when there are more than 40."""


def assign(found: Iterable[Collection[CauseName]]) -> list[CauseName]:
    """One cause a failure, from all causes that would explain it: the first in `PRIORITY`."""
    return [next((cause for cause in PRIORITY if cause in causes), "unexplained") for causes in found]


def table() -> str:
    """The causes in Markdown, as `docs/diagnosis.md` shows them."""
    heads = ("cause", "the failures ...", "points to", "cannot help")
    rows = [heads, tuple("---" for _ in heads), *map(_table_row, MEANINGS.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _table_row(meaning: Meaning) -> tuple[str, ...]:
    pointed, idle = (", ".join(names) for names in (meaning.points_to, meaning.cannot_help))
    return (meaning.cause, meaning.shown_by, pointed or "no technique", idle or "-")
