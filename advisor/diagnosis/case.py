"""What a diagnosis knows of a candidate before it asks anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advisor.diagnosis.facts import AnswerKind, Library, accepted, answer_kind, answer_set
from advisor.diagnosis.failures import Failure
from advisor.diagnosis.gold import gold_documents
from advisor.goal import Goal
from advisor.retrieval.metrics import retrieved
from advisor.techniques.base import Ablatable, Fitted, GivenKind
from evals.scorers.base import AnyScorer
from evals.task import Document, Sample, Task
from evals.trial import Trial


@dataclass(frozen=True, slots=True)
class Case:
    """A fitted candidate, its task, and what the documents say about its failures."""

    task: Task
    scorer: AnyScorer
    threshold: float
    """Score from which an answer counts as right."""
    fitted: Fitted
    kinds: Mapping[str, AnswerKind]
    """By sample id: what kind of answer is asked for."""
    stating: Mapping[str, tuple[str, ...]]
    """By sample id, for facts: the documents that state the answer."""
    gold: Mapping[str, tuple[str, ...]]
    """By sample id: the documents with the answer; empty when it is not known which these are."""
    answers: tuple[str, ...]
    """The closed set of answers, as far as one is known."""
    retrieves: bool
    """Whether the candidate looks documents up."""

    @classmethod
    def of(cls, task: Task, scorer: AnyScorer, goal: Goal, fitted: Fitted, failures: Sequence[Failure]) -> Case:
        """Look the failures up in the documents."""
        library = Library(task.documents)
        known = frozenset(document.id for document in task.documents)
        samples = [failure.sample for failure in failures]
        kinds = {sample.id: answer_kind(sample, task, scorer) for sample in samples}
        facts = [sample for sample in samples if kinds[sample.id] == "fact"]
        stating = {sample.id: library.stating(accepted(sample, scorer)) for sample in facts}
        return cls(
            task=task,
            scorer=scorer,
            threshold=threshold(scorer, goal),
            fitted=fitted,
            kinds=kinds,
            stating=stating,
            gold={sample.id: gold_documents(sample, known, stating.get(sample.id, ())) for sample in samples},
            answers=answer_set(task),
            retrieves=accepts(fitted, "documents") or any(retrieved(failure.trial) for failure in failures),
        )

    def right(self, trial: Trial | None) -> bool:
        """Whether a trial of an ablation gave a right answer; a failed one did not."""
        return trial is not None and trial.score is not None and trial.score.value >= self.threshold

    def wrong(self, trial: Trial | None) -> bool:
        """Whether a trial of an ablation gave a wrong answer; a failed one gave none."""
        return trial is not None and trial.score is not None and trial.score.value < self.threshold

    def missed(self, failure: Failure) -> bool:
        """Whether the candidate's retrieval lacked a gold document."""
        return not set(self.gold[failure.sample.id]) <= set(retrieved(failure.trial) or ())

    def documents(self, sample: Sample) -> tuple[Document, ...]:
        """The gold documents of a sample."""
        by_id = {document.id: document for document in self.task.documents}
        return tuple(by_id[found] for found in self.gold[sample.id])


def threshold(scorer: AnyScorer, goal: Goal) -> float:
    """Score from which an answer counts as right: 1 where scores are 0 or 1, else the goal's target."""
    return 1.0 if scorer.binary else goal.target


def accepts(fitted: Fitted, kind: GivenKind) -> bool:
    """Whether a candidate takes right intermediate results of this kind in place of its own."""
    return isinstance(fitted, Ablatable) and kind in fitted.accepts
