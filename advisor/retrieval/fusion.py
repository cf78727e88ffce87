"""Merges rankings that cannot be compared by their scores."""

from __future__ import annotations

from collections.abc import Sequence

_DAMPING = 60
"""k of the paper, which found the results to change little between 30 and 100."""


def reciprocal_rank_fusion(rankings: Sequence[Sequence[int]], weights: Sequence[float]) -> list[tuple[int, float]]:
    """Positions with their fused scores, best first; ties by position.

    The score of a position is the sum over the rankings of weight / (60 + rank), rank from 1 (Cormack, Clarke and
    Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods", with weights).
    """
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, position in enumerate(ranking, start=1):
            scores[position] = scores.get(position, 0.0) + weight / (_DAMPING + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
