"""Distillation: the tuned model learns from the answers of a candidate of the same scenario.

Hinton et al. 2015, arXiv:1503.02531; from answers rather than probabilities: Kim and Rush 2016, arXiv:1606.07947.
Dev and test stay gold. What was taught is told from what is gold by every sample's metadata, and is written to the
run's folder, where people can look at it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from advisor.candidates import Candidate
from advisor.driver import by_cost
from advisor.fitting import FitCost
from advisor.measure import serving
from advisor.scenario.model import Teacher
from advisor.session import Prepared, Session
from advisor.techniques.fine_tune import FEWEST_TRAIN
from advisor.tuning.asking import Lesson, ask, nothing
from advisor.tuning.gain import Gain
from backends.errors import RequestError
from backends.wording import counted
from evals.task import Sample, Task

TAUGHT_FILE = "taught.jsonl"
_FEW = 3
"""Of fewer samples a model learns next to nothing."""
SOURCE = "taught"
"""`metadata["source"]` of a sample whose target a teacher gave."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """What a teacher taught."""

    teacher: str
    """Id of the candidate."""
    rules: Teacher
    asked: int
    """Inputs it was asked about."""
    samples: tuple[Sample, ...]
    """What is taught, in the order it was asked."""
    dropped: Mapping[str, int]
    """Inputs that are not taught, by reason: those never asked about, as they are in a split, included."""
    why: str
    """For instance what was wrong with an answer that could not be taught; empty when none was."""
    again: tuple[float, ...]
    """Scores of second answers against first ones."""
    ended: str | None
    """The cap that ended the asking: `usd` or `samples`."""
    rare: Mapping[str, int]
    """Labels with hardly a train sample, gold or taught, and how many they have: a filter drops the hard ones first."""
    gold: tuple[Sample, ...]
    """Samples of the train split that are learnt from beside."""
    cost: FitCost = field(default_factory=nothing)
    student: Gain | None = None
    """The student against its teacher, on test samples that both answered; None where there is nothing to compare."""

    @property
    def train(self) -> tuple[Sample, ...]:
        """All that is learnt from."""
        return (*self.gold, *self.samples)

    @property
    def text(self) -> str:
        """The samples as JSON lines, each with where it comes from."""
        return "".join(json.dumps(_row(sample), ensure_ascii=False) + "\n" for sample in self.samples)

    def as_json(self) -> dict[str, Any]:
        """What the report shows."""
        return {
            "teacher": self.teacher,
            "n_inputs": self.rules.inputs.read,
            "n_asked": self.asked,
            "n_taught": len(self.samples),
            "n_gold": len(self.gold),
            "n_dropped": sum(self.dropped.values()),
            "dropped": dict(self.dropped),
            "answers": self.rules.answers,
            "wanted_agreement": self.rules.agreement,
            "agreement": sum(self.again) / len(self.again) if self.again else None,
            "asked_again": len(self.again),
            "ended": self.ended,
            "rare_labels": dict(self.rare),
            "file": TAUGHT_FILE,
            "hash": hashlib.sha256(self.text.encode()).hexdigest(),
            "usd": self.cost.usage.cost_usd,
            "seconds": self.cost.seconds,
            "requests": self.cost.usage.requests,
            "student": None if self.student is None else self.student.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Study:
    """What a candidate is to learn from, and what it took to have it."""

    task: Task
    cost: FitCost = field(default_factory=nothing)
    teaching: Teaching | None = None
    problem: str | None = None
    """Why there is too little to learn from."""


async def study(
    session: Session, candidate: Candidate, able: Sequence[Prepared], picked: Prepared | None = None
) -> Study:
    """The scenario's task, with the train split that this candidate learns from.

    `able` are the candidates that may teach; `picked`, which met the target already, does where it is one of them.
    """
    rules, task = session.scenario.fine_tune.teacher, session.scenario.task
    if rules is None or not getattr(candidate.technique, "taught", False):
        return Study(task)
    teacher = _teacher(able, picked)
    if teacher is None:
        return Study(task, problem="No candidate that may teach could be prepared.")
    try:
        lessons, ended = await ask(session, candidate, teacher, rules)
    except RequestError as error:
        return Study(task, problem=f"Its teacher could not go on: {error}.")
    gold = task.train if rules.gold == "include" else ()
    found = _taught(teacher.candidate.id, rules, lessons, ended, gold, task.labels)
    session.workspace.write(session.workspace.run_folder(session.run_id) / TAUGHT_FILE, found.text)
    task = replace(task, train=found.train)
    return Study(task, found.cost, found, _problem(task, found))


def _teacher(able: Sequence[Prepared], picked: Prepared | None) -> Prepared | None:
    """The pick where it may teach, else the best on dev of those that may; of equal ones the cheapest."""
    if picked is not None and any(one.candidate == picked.candidate for one in able):
        return picked
    return max(by_cost(able), key=lambda one: serving(one.dev).score or 0.0, default=None)


def _taught(
    teacher: str,
    rules: Teacher,
    lessons: Sequence[Lesson],
    ended: str | None,
    gold: tuple[Sample, ...],
    labels: Sequence[str],
) -> Teaching:
    kept = tuple(_sample(lesson, teacher) for lesson in lessons if lesson.fate == "kept")
    fates = Counter(str(lesson.fate) for lesson in lessons if lesson.fate != "kept")
    faults = [fault for lesson in lessons if (fault := _fault(lesson))]
    counts = Counter(sample.target for sample in (*gold, *kept))
    return Teaching(
        teacher=teacher,
        rules=rules,
        asked=len(lessons),
        samples=kept,
        dropped={**rules.inputs.left_out, **fates},
        why=faults[0] if faults else "",
        again=tuple(lesson.again for lesson in lessons if lesson.again is not None),
        ended=ended,
        rare={label: counts[label] for label in labels if counts[label] < _FEW},
        gold=gold,
        cost=sum((lesson.cost for lesson in lessons), nothing()),
    )


def _sample(lesson: Lesson, teacher: str) -> Sample:
    """The sample that is learnt from; its id cannot be taken for a gold one's."""
    source = {"source": SOURCE, "teacher": teacher, "agreement": lesson.agreement, "answers": len(lesson.trials)}
    return replace(lesson.sample, id=f"{SOURCE}-{lesson.sample.id}", metadata={**lesson.sample.metadata, **source})


def _fault(lesson: Lesson) -> str | None:
    first = lesson.trials[0]
    if lesson.fate == "unusable" and first.score is not None:
        return first.score.reason
    return first.error


def _row(sample: Sample) -> dict[str, Any]:
    """A taught sample as a row of a data file, which may be checked by people and used as one."""
    group = {} if sample.group is None else {"group": sample.group}
    return {**sample.metadata, "id": sample.id, "input": sample.input, "target": sample.target, **group}


def _problem(task: Task, found: Teaching) -> str | None:
    if len(task.train) >= FEWEST_TRAIN:
        return None
    fates = ", ".join(f"{count} {reason}" for reason, count in found.dropped.items()) or "none"
    why = f"; for instance {found.why}" if found.why else ""
    return (
        f"{found.teacher} left {counted(len(task.train), 'sample')} to learn from, and training takes {FEWEST_TRAIN} "
        f"(asked about {counted(found.asked, 'input')}; dropped: {fates}{why})."
    )
