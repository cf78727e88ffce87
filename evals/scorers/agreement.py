"""How far a judge agrees with people: the same answers, scored by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from backends.errors import RequestError
from backends.meter import Meter
from backends.types import Usage
from evals.scorers.base import AnyScorer
from evals.scorers.citation import JudgedCitation
from evals.scorers.judge import Judge
from evals.statistics.display import wilson
from evals.statistics.types import Interval
from evals.task import Sample

NEAR = 0.1
"""Graded scores this far apart count as equal: one step of the scale from 0 to 10."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What pairs of scores say about a judge."""

    n: int
    share_equal: Interval
    """Share of answers with equal scores (graded: at most one step of ten apart), with its 95 % interval."""
    kappa: float | None
    """Cohen's kappa: agreement beyond chance, 1 is perfect, 0 is chance. None for graded scores, and when both
    always give one and the same score."""
    correlation: float | None
    """Spearman's rank correlation of graded scores; None for binary ones, and when one side never varies."""
    mean_difference: float
    """Mean of judge minus person: above 0, the judge is the milder one."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge held against the scores of people that the data carry."""

    agreement: Agreement | None
    """None when the judge could score none of the answers."""
    errors: int
    """Answers that the judge gave no verdict on."""
    usage: Usage
    """What the judge used: evaluation cost."""
    cached_requests: int = 0
    """How many of its requests the response cache answered."""


def agreement(pairs: Sequence[tuple[float, float]]) -> Agreement:
    """Agreement of (judge, person) pairs of scores in [0, 1]; binary when all scores are 0 or 1.

    Raises:
        ValueError: there are no pairs.
    """
    if not pairs:
        raise ValueError("agreement needs at least one pair of scores")
    judged, said = np.array(pairs, dtype=np.float64).T
    binary = bool(np.isin([judged, said], (0.0, 1.0)).all())
    # The small amount admits 0.7 and 0.6, whose difference is a little more than a tenth in floating point.
    equal = np.abs(judged - said) <= (0.0 if binary else NEAR + 1e-9)
    varies = len(np.unique(judged)) > 1 and len(np.unique(said)) > 1
    return Agreement(
        n=len(pairs),
        share_equal=wilson(int(equal.sum()), len(pairs)),
        kappa=_kappa(float(equal.mean()), float(judged.mean()), float(said.mean())) if binary else None,
        correlation=float(spearmanr(judged, said).statistic) if varies and not binary else None,
        mean_difference=float((judged - said).mean()),
    )


def _kappa(equal: float, judged: float, said: float) -> float | None:
    """Cohen 1960, "A coefficient of agreement for nominal scales", for two raters and two values."""
    by_chance = judged * said + (1 - judged) * (1 - said)
    return None if by_chance == 1 else (equal - by_chance) / (1 - by_chance)


def judge_of(scorer: AnyScorer) -> Judge | None:
    """The judge among a scenario's scorer, also where `citation` asks it; None when none is asked."""
    if isinstance(scorer, JudgedCitation):
        return judge_of(scorer.answer)
    return scorer if isinstance(scorer, Judge) else None


async def calibrate(judge: Judge, samples: Sequence[Sample], meter: Callable[[], Meter]) -> Calibration | None:
    """Have the judge score the answers that people scored, one fresh meter each; None when the data carry none."""
    labelled = [(sample, label) for sample in samples if (label := judge.labelled(sample)) is not None]
    if not labelled:
        return None
    pairs: list[tuple[float, float]] = []
    usage, cached = Usage(), 0
    for sample, (answer, said) in labelled:
        models = meter()
        with suppress(RequestError):  # a missing verdict is no disagreement: it is counted as an error
            pairs.append(((await judge.score(answer, sample, models)).value, said))
        usage += models.usage
        cached += models.cached_requests
    return Calibration(agreement(pairs) if pairs else None, len(labelled) - len(pairs), usage, cached)
