"""The right intermediate results that the data give for a sample, ready to be handed to a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals.data import as_text
from evals.leakage import normalise_input
from evals.task import Document, Sample, Task

_MOST_FOUND = 3
"""An answer that more documents hold is too common a phrase to tell which of them is meant."""


def gold_documents(sample: Sample, known: frozenset[str], stating: Sequence[str]) -> tuple[str, ...]:
    """Ids of the documents with the answer: those the data name, else up to three that state it; empty if unknown."""
    if sample.gold_documents:
        return sample.gold_documents if known.issuperset(sample.gold_documents) else ()
    return tuple(stating) if len(stating) <= _MOST_FOUND else ()


def gold_tool_results(sample: Sample) -> tuple[str, ...]:
    """What the tools should have given: the field `tool_results`, a list."""
    found = sample.metadata.get("tool_results")
    return tuple(text for one in found if (text := as_text(one))) if isinstance(found, list | tuple) else ()


def gold_steps(sample: Sample, task: Task) -> tuple[str, ...]:
    """Outputs of the first steps: the field `steps`, a list of texts or of objects with `answer`, or an object by name.

    Of an object whose keys name the task's chain, the first steps in the order of the chain are taken. Last steps that
    state the target are left out: handing over the answer would prove nothing.
    """
    found = sample.metadata.get("steps")
    if isinstance(found, Mapping):
        found = _by_name(found, task)
    steps = _step_texts(found, task) if isinstance(found, list | tuple) else []
    while steps and _states(steps[-1], sample.target):
        steps.pop()
    return tuple(steps)


def gold_outputs(sample: Sample) -> Mapping[str, str] | Sequence[str]:
    """What the steps should have given, all of them: by name, or in their order; empty when the data do not say."""
    found = sample.metadata.get("steps")
    if isinstance(found, Mapping):
        return {str(name): as_text(text) or "" for name, text in found.items()}
    if not isinstance(found, list | tuple):
        return ()
    texts = [as_text(one.get("answer") if isinstance(one, Mapping) else one) for one in found]
    return () if None in texts else [text for text in texts if text is not None]


def _by_name(found: Mapping[str, Any], task: Task) -> list[Any]:
    names = [step.name for step in task.chain]
    if not set(names) & set(found):
        return list(found.values())
    first = next((position for position, name in enumerate(names) if name not in found), len(names))
    return [found[name] for name in names[:first]]


def _step_texts(found: Sequence[Any], task: Task) -> list[str]:
    """A declared step gives an answer; elsewhere an answer says little without the question it belongs to."""
    keys = ("answer",) if task.chain else ("question", "answer")
    return [text for part in found if (text := _part_text(part, keys))]


def _part_text(part: Any, keys: Sequence[str]) -> str | None:
    if not isinstance(part, Mapping):
        return as_text(part)
    return " ".join(text for key in keys if (text := as_text(part.get(key))))


def _states(step: str, target: str) -> bool:
    return f" {normalise_input(target)} " in f" {normalise_input(step)} "


def documents_text(documents: Sequence[Document]) -> str:
    """Documents as they are put before an input."""
    parts = (f"[{document.id}] {document.title}\n{document.text}".strip() for document in documents)
    return "Documents:\n\n" + "\n\n".join(parts)


def results_text(results: Sequence[str]) -> str:
    """Tool results as they are put before an input."""
    return "Results of tools:\n" + "\n".join(f"- {result}" for result in results)


def steps_text(steps: Sequence[str]) -> str:
    """Intermediate results as they are put before an input."""
    return "Worked out so far:\n" + "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
