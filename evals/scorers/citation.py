"""The scorer `citation`: whether the answer cites a document that holds the answer, and is right besides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from backends.meter import Meter
from evals.scorers.base import ModelScorer, Scorer, ScorerError, right_answer
from evals.task import Sample
from evals.trial import Score

_BRACKETS = re.compile(r"\s*\[([^\[\]\n]{1,300})\](?!\()")
"""`[id]`, the space before it included; `[text](address)` is a link."""


def citations(output: str) -> tuple[str, ...]:
    """What an answer cites, in order: the contents of its square brackets. Links are no citations."""
    return tuple(dict.fromkeys(found[1].strip() for found in _BRACKETS.finditer(output)))


def without_citations(output: str) -> str:
    """The answer alone."""
    return _BRACKETS.sub("", output).strip()


def _cited_ids(output: str, gold: Iterable[str]) -> tuple[str, ...]:
    """Document ids as they are cited; `[a, b]` cites two, unless one document is called so."""
    found: dict[str, None] = {}
    for text in citations(output):
        parts = [text] if text in gold else [part.strip() for part in re.split(r"[,;]", text)]
        found.update(dict.fromkeys(filter(None, parts)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Citation:
    """1 when the answer cites a gold document of the sample as `[document id]`, else 0; times its own score, if asked.

    Gold documents are those in the sample's field `supporting_doc_ids`. With `answer`, another scorer judges the
    answer without its citations, and its score counts only where a gold document is cited: right and supported.
    """

    answer: Scorer | None = None
    """The scorer of the answer itself: a name, or `{name: ..., option: value}`."""
    only_gold: bool = False
    """True: an answer that cites any other document besides scores 0."""

    name: ClassVar[str] = "citation"

    @property
    def binary(self) -> bool:
        """True unless the answer's own score is graded."""
        return self.answer is None or self.answer.binary

    def right_answer(self, sample: Sample) -> str | None:
        """A right answer of the other scorer with one gold document cited. Raises ScorerError without any."""
        return _with_citation(sample, sample.target if self.answer is None else right_answer(self.answer, sample))

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer. Raises ScorerError for a sample without gold documents."""
        support = supported(output, sample, self.only_gold)
        if self.answer is None or not support.value:
            return support
        return _both(self.answer(without_citations(output), sample), support)


@dataclass(frozen=True, slots=True)
class JudgedCitation:
    """`Citation` whose other scorer asks models, which it does only for answers that cite a gold document."""

    answer: ModelScorer
    only_gold: bool = False

    name: ClassVar[str] = Citation.name

    @property
    def binary(self) -> bool:
        """True when the other scorer's values are 0 or 1."""
        return self.answer.binary

    @property
    def asks(self) -> str | None:
        """The other scorer's chat model."""
        return self.answer.asks

    @property
    def embeds(self) -> bool:
        """Whether the other scorer asks for embeddings."""
        return self.answer.embeds

    def right_answer(self, sample: Sample) -> str | None:
        """As Citation."""
        return _with_citation(sample, right_answer(self.answer, sample))

    async def score(self, output: str, sample: Sample, models: Meter) -> Score:
        """As Citation."""
        support = supported(output, sample, self.only_gold)
        if not support.value:
            return support
        return _both(await self.answer.score(without_citations(output), sample, models), support)


def supported(output: str, sample: Sample, only_gold: bool) -> Score:
    """1 when the answer cites a gold document (and, if so wanted, no other). Raises ScorerError when there is none."""
    gold = _gold(sample)
    cited = _cited_ids(output, gold)
    if not cited:
        return Score(0.0, f"cites nothing; the answer is in {_listed(gold)}")
    others = [one for one in cited if one not in gold]
    if len(others) == len(cited):
        return Score(0.0, f"cites {_listed(cited)}, but the answer is in {_listed(gold)}")
    if only_gold and others:
        return Score(0.0, f"cites {_listed(others)} too, but the answer is in {_listed(gold)}")
    return Score(1.0, f"cites {_listed([one for one in cited if one in gold])}")


def _gold(sample: Sample) -> tuple[str, ...]:
    if not sample.gold_documents:
        raise ScorerError(f"sample {sample.id} has no gold documents: its field supporting_doc_ids is missing or empty")
    return sample.gold_documents


def _with_citation(sample: Sample, answer: str | None) -> str | None:
    gold = _gold(sample)[0]
    return None if answer is None else f"{answer} [{gold}]"


def _both(right: Score, support: Score) -> Score:
    return Score(right.value * support.value, f"{right.reason}; {support.reason}")


def _listed(ids: Iterable[str]) -> str:
    found = list(ids)
    return ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
