"""Whether an answer that nobody has checked could be a right one at all; only such answers are taught."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.tools.references import validator
from evals.scorers.base import AnyScorer, ModelScorer, ScorerError, shorten
from evals.scorers.text import normalise
from evals.task import Sample, Task
from evals.trial import Score


@dataclass(frozen=True, slots=True)
class Usable:
    """Scores 1 what a sample could have as its target, without a word on whether it is right."""

    task: Task
    scorer: AnyScorer
    """The scenario's own: an answer that it does not score 1 against itself is no target for it."""

    name: ClassVar[str] = "usable"
    binary: ClassVar[bool] = True

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score an answer to an unlabelled input."""
        fault = self.fault(output, sample)
        return Score(1.0) if fault is None else Score(0.0, fault)

    def fault(self, output: str, sample: Sample) -> str | None:
        """What keeps the answer from being a target, or None."""
        target = self.target(output)
        if not target:
            return "the answer is empty"
        if self.task.labels and target not in self.task.labels:
            return f"{shorten(target)} is not among the labels"
        return self._schema_fault(target) or self._scorer_fault(target, sample)

    def target(self, output: str) -> str:
        """The answer as a target: without spaces around it, and a label as the scenario writes it."""
        text = output.strip()
        return next((label for label in self.task.labels if normalise(label) == normalise(text)), text)

    def _schema_fault(self, target: str) -> str | None:
        if self.task.output_schema is None:
            return None
        try:
            held = validator(json.loads(self.task.output_schema))
            error = next(held.iter_errors(json.loads(target)), None)
        except (ValueError, RecursionError):
            return f"{shorten(target)} is no JSON that could be checked"
        return None if error is None else f"it breaks the schema: {error.message}"

    def _scorer_fault(self, target: str, sample: Sample) -> str | None:
        if isinstance(self.scorer, ModelScorer):
            # Asking a model whether a text equals itself would be paid for nothing.
            return None
        try:
            score = self.scorer(target, replace(sample, target=target))
        except ScorerError as error:
            return str(error)
        return None if score.value >= 1 else f"it scores {score.value:g} against itself: {score.reason}"
