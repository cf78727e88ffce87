"""The n-gram measures of `rouge-score` and `sacrebleu`. Needs the extra `text`; reached through `ngrams`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


def rouge_l(output: str, rights: Sequence[str], stem: bool) -> float:
    """F1 by the longest common subsequence with the nearest right answer, in [0, 1]."""
    return float(_rouge(stem).score_multi(rights, output)["rougeL"].fmeasure)


def chrf(output: str, rights: Sequence[str], word_order: int, case_sensitive: bool) -> float:
    """chrF2 with the nearest right answer, in [0, 1]."""
    return float(_chrf(word_order, case_sensitive).sentence_score(output, rights).score) / 100


def bleu(output: str, rights: Sequence[str], tokenize: str, case_sensitive: bool) -> float:
    """Sentence BLEU with `exp` smoothing and effective order against all right answers; in [0, 1] up to rounding."""
    return float(_bleu(tokenize, case_sensitive).sentence_score(output, rights).score) / 100


@cache
def _rouge(stem: bool) -> RougeScorer:
    return RougeScorer(["rougeL"], tokenizer=DefaultTokenizer(stem))


@cache
def _chrf(word_order: int, case_sensitive: bool) -> CHRF:
    return CHRF(word_order=word_order, lowercase=not case_sensitive)


@cache
def _bleu(tokenize: str, case_sensitive: bool) -> BLEU:
    return BLEU(tokenize=tokenize, lowercase=not case_sensitive, smooth_method="exp", effective_order=True)
