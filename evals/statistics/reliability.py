"""pass^k: how often a candidate succeeds k times in a row on the same sample."""

from __future__ import annotations

import numpy as np
from scipy.special import comb

from evals.statistics.types import FloatArray, IntArray


def pass_hat(successes: IntArray, repeats: int, k: int) -> FloatArray:
    """Unbiased estimate per sample that k independent repeats all succeed: C(c, k) / C(R, k) (tau-bench 2024).

    Args:
        successes: of `repeats` runs of every sample, shape (n,).
        repeats: runs of every sample, R.
        k: runs that must all succeed, 1 <= k <= R.

    Returns:
        Shape (n,), in [0, 1]: one observation per sample, to be averaged and tested as any graded score.

    Raises:
        ValueError: k outside 1 to R, or more successes than repeats.
    """
    if not 1 <= k <= repeats:
        raise ValueError(f"k lies between 1 and the {repeats} repeats, got {k!r}")
    if successes.size and (successes.min() < 0 or successes.max() > repeats):
        raise ValueError(f"successes lie between 0 and the {repeats} repeats")
    return np.asarray(comb(successes, k) / comb(repeats, k), dtype=np.float64)
