"""How good a retrieval is where the documents that hold the answers are known; all figures in [0, 1], 1 is best.

Definitions as in Manning, Raghavan and Schütze, "Introduction to Information Retrieval" (2008), chapter 8, with binary
relevance. Rankings hold each document once, best first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from advisor.retrieval.chunks import approximate_tokens
from advisor.retrieval.retriever import STEP, Passage
from evals.task import Sample
from evals.trial import Trial


def recall_at(k: int, ranked: Sequence[str], gold: Iterable[str]) -> float:
    """Share of the gold documents among the first `k`."""
    wanted = set(gold)
    return len(wanted & set(ranked[:k])) / len(wanted)


def reciprocal_rank(ranked: Sequence[str], gold: Iterable[str]) -> float:
    """1 / rank of the first gold document, 0 when there is none (Voorhees 1999, TREC-8 question answering track)."""
    wanted = set(gold)
    return next((1 / rank for rank, found in enumerate(ranked, start=1) if found in wanted), 0.0)


def ndcg_at(k: int, ranked: Sequence[str], gold: Iterable[str]) -> float:
    """Normalised discounted cumulative gain of the first `k` (Järvelin and Kekäläinen 2002), by log2(rank + 1)."""
    wanted = set(gold)
    gained = sum(1 / math.log2(rank + 1) for rank, found in enumerate(ranked[:k], start=1) if found in wanted)
    return gained / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))


_READ = (300, 600, 1200)
"""Approximate tokens of passages that a prompt may hold: few, some, many."""


def coverage(passages: Sequence[Passage], documents: Collection[str], answer: str) -> float:
    """How much of what an answer rests on is among the first passages: mean recall within 300, 600 and 1,200 tokens.

    Lengths in place of ranks, so that long passages and short ones compare. `documents` are gold ids: each counts as
    found with its first passage or, when the answer stands in any of its passages here, with the first that has it.
    Without gold ids one passage with the answer is sought.
    """
    wanted: set[str | None] = set(documents) or {None}
    found: dict[str | None, list[tuple[int, bool]]] = {}
    read = 0
    for passage in passages:
        read += approximate_tokens(passage.text)
        holds = bool(answer) and answer.casefold() in passage.text.casefold()
        key = passage.document_id if documents else None
        if key in wanted and (documents or holds):
            found.setdefault(key, []).append((read, holds))
    reached = [min(places, key=lambda place: (not place[1], place[0]))[0] for places in found.values()]
    return fmean(sum(at <= budget for at in reached) / len(wanted) for budget in _READ)


@dataclass(frozen=True, slots=True)
class RetrievalQuality:
    """Means over trials whose samples name gold documents."""

    n: int
    """Trials that retrieved and whose sample names gold documents."""
    shown: float
    """Documents a trial read."""
    recall: float
    """Share of the gold documents among those read."""
    recall_at_5: float | None
    """Share of the gold documents among the first five; None when no trial retrieved five."""
    mrr: float
    """Reciprocal rank of the first gold document, 0 where none was read."""
    ndcg: float
    """Normalised discounted cumulative gain of what was read."""


def retrieval_quality(trials: Iterable[Trial], samples: Iterable[Sample]) -> RetrievalQuality | None:
    """Quality of the steps named `retrieve`; None when no trial has one and gold documents too.

    Where a trial retrieved several times, its documents are ranked in the order in which they were first found.
    """
    gold = {sample.id: sample.gold_documents for sample in samples if sample.gold_documents}
    found = [
        (ranked, gold[trial.sample_id])
        for trial in trials
        if trial.sample_id in gold and (ranked := retrieved(trial)) is not None
    ]
    if not found:
        return None
    depth = max(1, *(len(ranked) for ranked, _ in found), 1)
    return RetrievalQuality(
        n=len(found),
        shown=fmean(len(ranked) for ranked, _ in found),
        recall=fmean(recall_at(depth, ranked, wanted) for ranked, wanted in found),
        recall_at_5=fmean(recall_at(5, ranked, wanted) for ranked, wanted in found) if depth >= 5 else None,
        mrr=fmean(reciprocal_rank(ranked, wanted) for ranked, wanted in found),
        ndcg=fmean(ndcg_at(depth, ranked, wanted) for ranked, wanted in found),
    )


def retrieved(trial: Trial) -> list[str] | None:
    """Ids of the documents a trial found, each once; None when it finished no retrieval."""
    outputs = [step.output for step in trial.steps if step.name == STEP and step.output]
    if not outputs:
        return None
    return list(dict.fromkeys(str(found) for output in outputs for found in json.loads(output)))
