"""Finds targets that near-identical train samples contradict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backends.errors import RequestError
from backends.meter import Meter
from evals.data import Placed
from evals.leakage import Question, question
from evals.scorers.text import normalise
from evals.task import Sample

_SHORTLIST = 20
"""Train samples compared by embedding, per failure: bounds the cost, and what shares no words is not near-identical."""
_FEW_WORDS_SHARED = 0.3
_SAME_WORDS = 0.9
"""Share of shared words from which two inputs are near-identical: others differ in one word of twenty."""
_SAME_VECTORS = 0.95
"""Cosine from which two inputs are near-identical."""
_DECISIVE = re.compile(r"\d+|\b(?:not|no|never|none|without)\b|\b\w+n['’]t\b", re.IGNORECASE)
"""Numbers and negations: inputs that differ in one are different questions, however alike they look."""


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    words: frozenset[str]
    decisive: tuple[str, ...]

    @classmethod
    def of(cls, sample: Sample) -> _Asked:
        key = question(Placed(sample, ""))
        marks = sorted(mark.casefold() for mark in _DECISIVE.findall(sample.input))
        return cls(key, frozenset(key[0].split()), tuple(marks))

    def overlap(self, other: _Asked) -> float:
        """Jaccard index of the words; 0 for what cannot be the same question."""
        if self.decisive != other.decisive or self.question[1:] != other.question[1:]:
            return 0.0
        return len(self.words & other.words) / max(len(self.words | other.words), 1)


class TrainNeighbours:
    """Answers a sample with the target that most of its near-identical train samples carry."""

    def __init__(self, train: Sequence[Sample], failed: Sequence[Sample], embeds: bool) -> None:
        """Shortlist train samples for each of the `failed` ones; `embeds` says whether meters have an embedder."""
        self._embeds = embeds
        asked = [(_Asked.of(sample), sample) for sample in train]
        self._near = {sample.id: self._shortlist(_Asked.of(sample), asked) for sample in failed}

    def has(self, sample: Sample) -> bool:
        """Whether any train sample may be near-identical."""
        return bool(self._near[sample.id])

    async def solve(self, sample: Sample, models: Meter) -> str:
        """The commonest target of the near-identical train samples, the nearest's among equals.

        Raises RequestError when there is none.
        """
        near = self._near[sample.id]
        if self._embeds and near:
            near = await _alike(sample, near, models)
        if not near:
            raise RequestError("no train sample is near-identical")
        counts = Counter(normalise(one.target) for one in near)
        return max(near, key=lambda one: counts[normalise(one.target)]).target

    def _shortlist(self, wanted: _Asked, train: Sequence[tuple[_Asked, Sample]]) -> tuple[Sample, ...]:
        """Train samples by shared words, nearest first."""
        least = _FEW_WORDS_SHARED if self._embeds else _SAME_WORDS
        scored = [(wanted.overlap(asked), position) for position, (asked, _) in enumerate(train)]
        best = sorted((-overlap, position) for overlap, position in scored if overlap >= least)
        return tuple(train[position][1] for _, position in best[:_SHORTLIST])


async def _alike(sample: Sample, near: Sequence[Sample], models: Meter) -> tuple[Sample, ...]:
    """Those of a shortlist whose vectors nearly equal the sample's, nearest first."""
    vectors = await models.embed([sample.input, *(one.input for one in near)])
    cosines: Mapping[int, float] = {row: float(vectors[0] @ vectors[row]) for row in range(1, len(vectors))}
    kept = [row for row in sorted(cosines, key=lambda row: (-cosines[row], row)) if cosines[row] >= _SAME_VECTORS]
    return tuple(near[row - 1] for row in kept)
