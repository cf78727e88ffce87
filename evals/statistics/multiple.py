"""Many candidates on the same samples: all pairs with Holm's correction, and which may be the best."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from evals.statistics.graded import units_of
from evals.statistics.paired import Paired, compare_pair
from evals.statistics.types import BoolArray, FloatArray

FLIPS = 4999


@dataclass(frozen=True, slots=True)
class Comparison:
    """One pair out of many."""

    a: str
    b: str
    paired: Paired
    """a minus b."""
    p_holm: float
    """The p-value corrected for all pairs."""


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down corrected p-values in the order given: max over i <= j of (m - i) p_(i), at most 1 (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * (len(order) - np.arange(len(order)))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in adjusted]


def compare_all(
    scores: Mapping[str, FloatArray],
    *,
    seed: int,
    level: float = 0.95,
    groups: Sequence[Hashable | None] | None = None,
) -> tuple[Comparison, ...]:
    """Every pair of candidates, paired by sample; arguments as for `compare_pair`. Intervals are not corrected."""
    pairs = list(combinations(scores, 2))
    results = [compare_pair(scores[a], scores[b], seed=seed, level=level, groups=groups) for a, b in pairs]
    corrected = holm([paired.p_value for paired in results])
    return tuple(Comparison(a, b, paired, p) for (a, b), paired, p in zip(pairs, results, corrected, strict=True))


def may_be_best(
    scores: Mapping[str, FloatArray],
    *,
    seed: int,
    alpha: float = 0.05,
    groups: Sequence[Hashable | None] | None = None,
) -> tuple[str, ...]:
    """The candidates that may have the highest mean; the truly best is left out with probability at most alpha.

    Multiple comparisons with the best (Hsu 1996): a candidate is ruled out when the largest paired t statistic of the
    others against it exceeds the (1 - alpha) quantile of that maximum when whole units flip the signs of their
    differences, which keeps the dependence between candidates. Samples that not all answered are left out.
    """
    names = list(scores)
    matrix = np.column_stack([scores[name] for name in names]) if names else np.empty((0, 0))
    kept: BoolArray = np.logical_not(np.isnan(matrix).any(axis=1))
    if len(names) < 2 or np.count_nonzero(kept) < 2:
        return tuple(names)
    groups = None if groups is None else [group for group, keep in zip(groups, kept, strict=True) if keep]
    units = units_of(int(np.count_nonzero(kept)), groups)
    sums = np.column_stack([units.sums(column) for column in matrix[kept].T])
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, len(units.complete_at)))
    return tuple(name for i, name in enumerate(names) if not _ruled_out(sums, i, signs, alpha))


def _ruled_out(sums: FloatArray, candidate: int, signs: FloatArray, alpha: float) -> bool:
    """Whether some other column of `sums`, shape (units, candidates), is shown to be higher than this one."""
    lead = np.delete(sums, candidate, axis=1) - sums[:, [candidate]]
    lead = lead[:, np.any(lead != 0.0, axis=0)]
    if not lead.size:
        return False
    # Normalised by a scale that flips leave alone; increasing in the t statistic.
    scaled = lead / np.sqrt((lead**2).sum(axis=0))
    observed = float(scaled.sum(axis=0).max())
    extreme = int(np.count_nonzero((signs @ scaled).max(axis=1) >= observed - 1e-12))
    return (1 + extreme) / (len(signs) + 1) <= alpha
