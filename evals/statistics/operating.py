"""Operating characteristics of a design: what it decides, and after how many samples, at a given true mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from evals.statistics.boundaries import START, Design


@dataclass(frozen=True, slots=True)
class Operating:
    """Probabilities of the four ends of a test, which add up to one, and its mean length."""

    certified: float
    eliminated: float
    hopeless: float
    unresolved: float
    mean_samples: float


@lru_cache(maxsize=4096)
def operating(design: Design, p: float) -> Operating:
    """Exact characteristics of `design` for independent 0/1 scores with mean p."""
    certified = eliminated = hopeless = samples = 0.0
    paths, seen = START, 0
    for look, top, low, futile in zip(design.looks, design.certify, design.eliminate, design.hopeless, strict=True):
        paths = paths.advance(look - seen, p)
        seen = look
        paths, up = paths.split(top)
        down, paths = paths.split(low + 1)
        given_up, paths = paths.split(futile + 1)
        certified += up.total()
        eliminated += down.total()
        hopeless += given_up.total()
        samples += look * (up.total() + down.total() + given_up.total())
    left = paths.total()
    return Operating(certified, eliminated, hopeless, left, samples + design.n * left)
