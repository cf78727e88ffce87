"""What a tuned model mixes up, by label: pairs of classes, the classes it finds least, and how many samples to add."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from backends.wording import counted
from evals.scorers.text import normalise
from evals.statistics.display import wilson
from evals.task import Sample

OTHER = "none of the labels"
FEWEST_TO_ADD, MOST_TO_ADD = 10, 200
"""Fewer make no difference; more at once are not looked through by anybody."""
_PAIRS = 8
_CLASSES = 5
_FEWEST_WRONG = 2
"""One wrong answer of a class says nothing about it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A dev sample and what the tuned model answered."""

    sample: Sample
    answer: str
    right: bool


@dataclass(frozen=True, slots=True)
class Confusion:
    """A class that was taken for another, and how often."""

    target: str
    answer: str
    count: int


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """How much of a class the model finds."""

    label: str
    n: int
    """Dev samples of the class."""
    wrong: int
    recall: float
    low: float
    high: float
    """Wilson's interval at 95 %."""
    train: int
    """Train samples of the class."""
    taken_for: str
    """The commonest wrong answer."""
    add: int
    """Train samples to add, by `to_add`."""

    @property
    def advice(self) -> str:
        """What to add, in words."""
        return (
            f"Add about {self.add} train samples labelled {self.label!r}: train has {self.train}, and of "
            f"{counted(self.n, 'dev sample')} of it {self.n - self.wrong} are right (recall {self.recall:.2f}, "
            f"{self.low:.2f} to {self.high:.2f}); it is mostly taken for {self.taken_for!r}."
        )


def to_add(own: int, typical: int = 0) -> int:
    """Samples to add where train has `own`: as many again, at least up to a `typical` class, within the limits.

    Error falls as a small power of the data (Hestness et al. 2017, arXiv:1712.00409): twice as many is about the least
    step whose effect can be seen.
    """
    return max(FEWEST_TO_ADD, min(MOST_TO_ADD, max(own, typical - own)))


def confusions(answered: Sequence[Answered], labels: Sequence[str]) -> tuple[Confusion, ...]:
    """The commonest pairs of target and wrong answer, most first."""
    known = _known(labels)
    pairs = Counter((_label(one.sample.target, known), _label(one.answer, known)) for one in answered if not one.right)
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(Confusion(target, answer, count) for (target, answer), count in ordered[:_PAIRS])


def weakest(answered: Sequence[Answered], train: Sequence[Sample], labels: Sequence[str]) -> tuple[ClassRecall, ...]:
    """The classes found least: below the recall of all, with two wrong answers at least; the worst first."""
    known = _known(labels)
    taught = Counter(_label(sample.target, known) for sample in train)
    typical = round(statistics.median(taught.get(label, 0) for label in known.values()))
    overall = sum(one.right for one in answered) / max(1, len(answered))
    found = []
    for label in known.values():
        own = [one for one in answered if _label(one.sample.target, known) == label]
        wrong = [_label(one.answer, known) for one in own if not one.right]
        if len(wrong) >= _FEWEST_WRONG and 1 - len(wrong) / len(own) < overall:
            found.append(_recall(label, len(own), wrong, taught.get(label, 0), typical))
    # Shrunk, so that a class with few samples does not come first by chance.
    return tuple(sorted(found, key=lambda one: ((one.n - one.wrong + 1) / (one.n + 2), one.label))[:_CLASSES])


def _recall(label: str, n: int, wrong: Sequence[str], train: int, typical: int) -> ClassRecall:
    interval = wilson(n - len(wrong), n)
    taken_for = min(Counter(wrong).items(), key=lambda answer: (-answer[1], answer[0]))[0]
    add = to_add(train, typical)
    return ClassRecall(label, n, len(wrong), interval.value, interval.low, interval.high, train, taken_for, add)


def _known(labels: Sequence[str]) -> dict[str, str]:
    return {normalise(label): label for label in labels}


def _label(text: str, known: dict[str, str]) -> str:
    return known.get(normalise(text), OTHER)
