"""The scorer `semantic_similarity`: how near the answer's meaning is to a right answer's, by embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backends.meter import Meter
from evals.scorers.base import Threshold, graded, shorten
from evals.scorers.text import right_answers
from evals.task import Sample
from evals.trial import Score


@dataclass(frozen=True, slots=True)
class SemanticSimilarity:
    """The cosine of the embeddings of the answer and the nearest right answer; a negative cosine counts as 0.

    The scenario's embedder decides what is near. Values of different embedders cannot be compared, opposites ("it is
    open", "it is closed") are often near, and 0 is rare: find a threshold on answers that you have judged.
    """

    references: str | None = None
    """A field of the data that lists further right answers."""
    at_least: Threshold | None = None
    """From this cosine on an answer scores 1, below it 0."""

    name: ClassVar[str] = "semantic_similarity"
    asks: ClassVar[str | None] = None
    embeds: ClassVar[bool] = True

    @property
    def binary(self) -> bool:
        """True when there is a threshold."""
        return self.at_least is not None

    def right_answer(self, sample: Sample) -> str:
        """The target. Raises ScorerError when the sample lacks the field `references`."""
        return right_answers(sample, self.references)[0]

    async def score(self, output: str, sample: Sample, models: Meter) -> Score:
        """Score the answer; an empty one and one that equals a right answer need no model."""
        rights = right_answers(sample, self.references)
        if not output.strip():
            return graded(0.0, self.at_least, "the answer is empty")
        if output in rights:
            return graded(1.0, self.at_least, f"equals {shorten(output)}")
        vectors = await models.embed([output, *rights])
        cosines = [float(cosine) for cosine in vectors[1:] @ vectors[0]]
        nearest = max(range(len(rights)), key=cosines.__getitem__)
        value = cosines[nearest]
        return graded(value, self.at_least, f"cosine {value:.2f} of {shorten(output)} with {shorten(rights[nearest])}")
