"""Forecast of a learning curve from a pilot: the error after training on more samples, with its uncertainty.

The error follows err(n) = c + a n^-b, with n in units of the whole train split (inverse power law; Figueroa et al.
2012, doi:10.1186/1472-6947-12-8). The posterior is computed on a grid, with the priors b ~ LogN(log 0.35, 0.45),
c ~ U(0, 0.12), a ~ LogN(log 0.12, 0.5) and a normal likelihood of variance e (1 - e) / n_dev + 0.01^2 / seeds. Where
the law was misspecified its nominal 90 % interval covered 83 to 87 %, so intervals are widened by 1.25 (decision.md
8.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from evals.statistics.types import FloatArray

Decision = Literal["go", "stop", "more_evidence"]

_WIDER = 1.25
_SEED_SD = 0.01
"""Spread of a score over training seeds."""
_GO, _STOP = 0.9, 0.1


@dataclass(frozen=True, slots=True)
class PilotPoint:
    """One size of the pilot."""

    fraction: float
    """Of the train split, in (0, 1]."""
    score: float
    """Mean dev score over the seeds, in [0, 1]."""
    seeds: int = 1


@dataclass(frozen=True, slots=True)
class Forecast:
    """The score expected after training on `multiple` times the train split."""

    multiple: float
    score: float
    """Posterior mean."""
    low: float
    """Lower end of the widened 90 % interval."""
    high: float
    p_reach: float
    """Probability of reaching the score asked for."""
    decision: Decision
    """go above 0.9, stop below 0.1, else more evidence is worth its price or not (value of information)."""


@dataclass(frozen=True)
class _Grid:
    """All combinations of a, b and c, flat, with the logarithm of their prior."""

    a: FloatArray
    b: FloatArray
    c: FloatArray
    log_prior: FloatArray

    def error(self, multiple: float) -> FloatArray:
        """Error of every combination at one size."""
        found: FloatArray = np.clip(self.c + self.a * multiple**-self.b, 0.0, 1.0)
        return found


@lru_cache(maxsize=1)
def _grid() -> _Grid:
    a = np.geomspace(0.005, 1.0, 90)
    b = np.geomspace(0.05, 2.0, 50)
    c = np.linspace(0.0, 0.12, 25)
    a3, b3, c3 = (axis.ravel() for axis in np.meshgrid(a, b, c, indexing="ij"))
    # On a grid that is even in log a and log b, a lognormal prior is a normal one of the logarithm.
    log_prior = -0.5 * ((np.log(a3) - np.log(0.12)) / 0.5) ** 2 - 0.5 * ((np.log(b3) - np.log(0.35)) / 0.45) ** 2
    return _Grid(a3, b3, c3, log_prior)


def forecast(points: Sequence[PilotPoint], n_dev: int, wanted: float, multiple: float = 1.0) -> Forecast:
    """What training on `multiple` times the train split will reach, from a pilot scored on `n_dev` dev samples.

    Args:
        points: The pilot, at least one size.
        n_dev: Dev samples behind every score.
        wanted: The score that has to be reached: the target and half the margin.
        multiple: Size to forecast, in units of the whole train split.

    Raises:
        ValueError: Without points or dev samples, or for a fraction outside (0, 1].
    """
    if not points or n_dev < 1:
        raise ValueError("a forecast needs a pilot and the dev samples it was scored on")
    if not all(0 < point.fraction <= 1 for point in points):
        raise ValueError("fractions of the train split lie in (0, 1]")
    weights = _posterior(points, n_dev)
    errors = _grid().error(multiple)
    low, high = _interval(errors, weights)
    mean = float(np.sum(weights * errors))
    p_reach = _probability(errors, weights, mean, 1.0 - wanted)
    decision: Decision = "go" if p_reach > _GO else "stop" if p_reach < _STOP else "more_evidence"
    return Forecast(multiple, 1.0 - mean, 1.0 - high, 1.0 - low, p_reach, decision)


def _posterior(points: Sequence[PilotPoint], n_dev: int) -> FloatArray:
    grid = _grid()
    log_weight = grid.log_prior.copy()
    for point in points:
        error = grid.error(point.fraction)
        variance = np.maximum(error * (1.0 - error), 1e-4) / n_dev + _SEED_SD**2 / point.seeds
        log_weight -= 0.5 * ((1.0 - point.score) - error) ** 2 / variance + 0.5 * np.log(variance)
    weights: FloatArray = np.exp(log_weight - log_weight.max())
    weights /= weights.sum()
    return weights


def _interval(errors: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """The 5 and 95 % quantiles of the error, moved away from the median by the widening."""
    order = np.argsort(errors)
    cumulative = np.cumsum(weights[order])
    low, middle, high = (float(errors[order][np.searchsorted(cumulative, q)]) for q in (0.05, 0.5, 0.95))
    return max(0.0, middle - _WIDER * (middle - low)), min(1.0, middle + _WIDER * (high - middle))


def _probability(errors: FloatArray, weights: FloatArray, mean: float, allowed: float) -> float:
    """Probability that the error stays at or below `allowed`, with the spread widened about the mean."""
    wider = mean + _WIDER * (errors - mean)
    return float(np.clip(weights[wider <= allowed].sum(), 0.0, 1.0))
