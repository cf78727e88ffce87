"""What kind of answer a sample asks for, and which documents state it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from evals.leakage import normalise_input
from evals.scorers.base import AnyScorer, ScorerError
from evals.scorers.text import normalise, right_answers
from evals.task import Document, Sample, Task

AnswerKind = Literal["learnable", "number", "fact", "open"]
"""Learnable: examples can teach it (a label, a fixed form, a rewriting of the input). Number: it has to be worked out.
Fact: one knows it or looks it up. Open: a longer text."""

_FACT_WORDS = 8
_FEWEST_FOR_A_SET = 10
_USES_EACH = 5
"""Answers that come up at least this often on average are a closed set, whether or not the scenario says so."""


def answer_kind(sample: Sample, task: Task, scorer: AnyScorer) -> AnswerKind:
    """What the target of a sample is, as far as its form tells."""
    if task.labels or task.output_schema:
        return "learnable"
    if scorer.name == "numeric":
        return "number"
    if _seen(sample, task) or _is_json(sample.target) or _made_of_input(sample):
        return "learnable"
    return "fact" if len(sample.target.split()) <= _FACT_WORDS else "open"


def answer_set(task: Task) -> tuple[str, ...]:
    """The closed set of answers: the task's labels, or the train targets when few make up all of them; else empty."""
    if task.labels:
        return task.labels
    known = {normalise(sample.target): sample.target for sample in reversed(task.train)}
    few = len(task.train) >= _FEWEST_FOR_A_SET and len(known) * _USES_EACH <= len(task.train)
    return tuple(sorted(known.values())) if few else ()


def accepted(sample: Sample, scorer: AnyScorer) -> tuple[str, ...]:
    """The target and, where the scorer knows them, further right answers."""
    try:
        return right_answers(sample, getattr(scorer, "references", None))
    except ScorerError:
        return (sample.target,)


def _seen(sample: Sample, task: Task) -> bool:
    target = normalise(sample.target)
    return any(normalise(other.target) == target for other in task.train)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _made_of_input(sample: Sample) -> bool:
    """Whether most words of the target stand in the input, as in a rewriting, an extraction or a query."""
    words = normalise_input(sample.target).split()
    given = set(normalise_input(sample.input).split())
    return 2 * sum(word in given for word in words) > len(words)


class Library:
    """The documents of a task, for a search by text."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._folded: list[str] = []

    def stating(self, answers: Sequence[str]) -> tuple[str, ...]:
        """Ids of the documents that hold one of the answers as whole words, case and punctuation aside."""
        if not self._folded:
            self._folded = [f"{document.title}\n{document.text}".casefold() for document in self._documents]
        wanted = [plain for answer in answers if (plain := normalise_input(answer))]
        return tuple(
            document.id
            for document, folded in zip(self._documents, self._folded, strict=True)
            if any(_holds(folded, plain) for plain in wanted)
        )


def _holds(folded: str, plain: str) -> bool:
    # Normalising every document would take seconds where there are many; one word of the answer rules most out.
    return max(plain.split(), key=len) in folded and f" {plain} " in f" {normalise_input(folded)} "
