"""Scorers that count what answer and reference have in common: `rouge_l`, `chrf` and `bleu`.

The counting is done by `rouge-score` and `sacrebleu`, which are imported when the first answer is scored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from backends.extras import require
from evals.scorers.base import ScorerError, Threshold, graded, shorten
from evals.scorers.text import right_answers
from evals.task import Sample
from evals.trial import Score


@dataclass(frozen=True, slots=True)
class _Overlap(ABC):
    """What the three share: several right answers, and a threshold that makes the score all or nothing."""

    references: str | None = None
    """A field of the data that lists further right answers."""
    at_least: Threshold | None = None
    """From this value on an answer scores 1, below it 0."""

    title: ClassVar[str]

    @property
    def binary(self) -> bool:
        """True when there is a threshold."""
        return self.at_least is not None

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer. Raises InputError when the extra `text` is not installed."""
        rights = right_answers(sample, self.references)
        value = self._measure(output, rights)
        if not value and not self._measure(sample.target, (sample.target,)):
            raise ScorerError(f"{self.title} finds nothing to count in the target {sample.target!r} of {sample.id}")
        more = f" and {len(rights) - 1} more" if len(rights) > 1 else ""
        reason = f"{self.title} {value:.2f} of {shorten(output)} with {shorten(sample.target)}{more}"
        return graded(value, self.at_least, reason)

    @abstractmethod
    def _measure(self, output: str, rights: Sequence[str]) -> float:
        """The measure, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class RougeL(_Overlap):
    """ROUGE-L: F1 of the longest common subsequence of words with the nearest right answer.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries" (W04-1013), as Google's rouge-score computes
    it: lower case, words of a-z and 0-9 only, precision and recall weighted alike. For texts in other scripts: chrf.
    """

    stem: bool = False
    """True: words longer than three letters are compared by their Porter stem (English)."""

    name: ClassVar[str] = "rouge_l"
    title: ClassVar[str] = "ROUGE-L"

    def _measure(self, output: str, rights: Sequence[str]) -> float:
        return float(_counting().rouge_l(output, rights, self.stem))


@dataclass(frozen=True, slots=True)
class Chrf(_Overlap):
    """chrF2: F-score (beta 2) of character n-grams, n up to 6, with the nearest right answer; for any language.

    Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation" (W15-3049), as sacrebleu computes it:
    spaces do not count; orders that either side is too short for are left out.
    """

    case_sensitive: bool = True
    """False: case does not count."""
    word_order: Literal[0, 1, 2] = 0
    """2 counts pairs of words too: chrF++ (Popović 2017)."""

    name: ClassVar[str] = "chrf"
    title: ClassVar[str] = "chrF"

    def _measure(self, output: str, rights: Sequence[str]) -> float:
        return float(_counting().chrf(output, rights, self.word_order, self.case_sensitive))


@dataclass(frozen=True, slots=True)
class Bleu(_Overlap):
    """Sentence-level BLEU: precision of word n-grams, n up to 4, in all right answers together, times brevity.

    Papineni et al. 2002 (P02-1040), as sacrebleu computes it for one sentence. Smoothing: `exp`, method 3 of Chen and
    Cherry 2014 (W14-3346): the k-th order without a match counts as 1/2^k matches. Orders that the answer is too short
    for are left out. The mean over samples is not the corpus BLEU that papers report.
    """

    case_sensitive: bool = True
    """False: case does not count."""
    tokenize: Literal["13a", "intl", "zh", "char"] = "13a"
    """How words are found: `13a` as WMT did, `intl` for any punctuation, `zh` for Chinese, `char` by character."""

    name: ClassVar[str] = "bleu"
    title: ClassVar[str] = "BLEU"

    def _measure(self, output: str, rights: Sequence[str]) -> float:
        return float(_counting().bleu(output, rights, self.tokenize, self.case_sensitive))


def _counting() -> Any:
    return require("evals.scorers.overlap", "text")
