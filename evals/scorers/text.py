"""Scorers that compare texts: `exact`, `includes` and `token_f1`."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from evals.scorers.base import ScorerError, shorten
from evals.task import Sample
from evals.trial import Score

_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»"}
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str, case_sensitive: bool = False) -> str:
    """The form in which answers are compared.

    Unicode NFKC; runs of whitespace become one space and none is left at the ends; one pair of quotation marks or
    backticks around the whole answer and one full stop at its end are dropped, as often as there are any (an
    ellipsis stays); case is folded unless it matters.
    """
    while True:
        plain = " ".join(unicodedata.normalize("NFKC", text).split())
        plain = _without_quotes(_without_full_stop(plain))
        if not case_sensitive:
            plain = plain.casefold()
        if plain == text:
            return text
        text = plain


def _without_full_stop(text: str) -> str:
    return text[:-1] if text.endswith(".") and not text.endswith("..") else text


def _without_quotes(text: str) -> str:
    return text[1:-1] if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] else text


def right_answers(sample: Sample, references: str | None) -> tuple[str, ...]:
    """The target, and what the sample's field `references` lists as further right answers."""
    if references is None:
        return (sample.target,)
    if references not in sample.metadata:
        raise ScorerError(f"sample {sample.id} has no field {references!r}, which the option references names")
    further = sample.metadata[references] or ()
    if isinstance(further, str):
        further = (further,)
    if not isinstance(further, list | tuple) or not all(isinstance(answer, str) for answer in further):
        raise ScorerError(f"field {references!r} of sample {sample.id} is {further!r}, but must be a list of texts")
    return tuple(dict.fromkeys((sample.target, *further)))


@dataclass(frozen=True, slots=True)
class Exact:
    """1 when the answer equals a right answer after `normalise`, else 0."""

    case_sensitive: bool = False
    """True: `Yes` and `yes` differ."""
    references: str | None = None
    """A field of the data that lists further right answers."""

    name: ClassVar[str] = "exact"
    binary: ClassVar[bool] = True

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer."""
        answer = normalise(output, self.case_sensitive)
        for right in right_answers(sample, self.references):
            if normalise(right, self.case_sensitive) == answer:
                return Score(1.0, f"equals {shorten(right)}")
        return Score(0.0, f"got {shorten(output)}, want {shorten(sample.target)}")


@dataclass(frozen=True, slots=True)
class Includes:
    """1 when a right answer occurs in the answer after `normalise`, else 0."""

    case_sensitive: bool = False
    """True: `Yes` and `yes` differ."""
    whole_words: bool = True
    """False: `cat` is found in `concatenate`; needed for languages written without spaces."""
    references: str | None = None
    """A field of the data that lists further right answers."""

    name: ClassVar[str] = "includes"
    binary: ClassVar[bool] = True

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer."""
        answer = normalise(output, self.case_sensitive)
        for right in right_answers(sample, self.references):
            wanted = normalise(right, self.case_sensitive)
            if not wanted:
                raise ScorerError(f"the right answer {right!r} of sample {sample.id} is empty, so every answer has it")
            if self._found(wanted, answer):
                return Score(1.0, f"has {shorten(right)}")
        return Score(0.0, f"no {shorten(sample.target)} in {shorten(output)}")

    def _found(self, wanted: str, answer: str) -> bool:
        if not self.whole_words:
            return wanted in answer
        return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", answer) is not None


@dataclass(frozen=True, slots=True)
class TokenF1:
    """Word overlap with the nearest right answer, as SQuAD's official script counts it.

    Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (arXiv 1606.05250),
    evaluate-v2.0.py: lower case, no ASCII punctuation, no articles; F1 of the bags of words; the best of all right
    answers counts; when either side has no words left, 1 if both have none, else 0.
    """

    references: str | None = None
    """A field of the data that lists further right answers."""

    name: ClassVar[str] = "token_f1"
    binary: ClassVar[bool] = False

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer."""
        answer = squad_words(output)
        scored = [(self._f1(answer, squad_words(right)), right) for right in right_answers(sample, self.references)]
        value, right = max(scored, key=lambda pair: pair[0])
        return Score(value, f"F1 {value:.2f} of {shorten(output)} with {shorten(right)}")

    @staticmethod
    def _f1(answer: list[str], right: list[str]) -> float:
        if not answer or not right:
            return float(answer == right)
        common = (Counter(answer) & Counter(right)).total()
        return 2 * common / (len(answer) + len(right))


def squad_words(text: str) -> list[str]:
    """The words of a text after SQuAD's normalisation."""
    return _ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split()
