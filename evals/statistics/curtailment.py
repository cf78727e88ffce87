"""Stochastic curtailment: stop when the samples that are left will hardly certify.

The predictive probability of the final count is beta-binomial under a uniform prior on the success probability
(Lan, Simon and Halperin 1982; Spiegelhalter, Freedman and Blackburn 1986).
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, gammaln


def predictive_probability(successes: int, seen: int, n: int, needed: int) -> float:
    """P(at least `needed` successes among n samples | `successes` among the first `seen`), uniform prior."""
    left, missing = n - seen, needed - successes
    if missing <= 0:
        return 1.0
    if missing > left:
        return 0.0
    more = np.arange(missing, left + 1)
    a, b = 1 + successes, 1 + seen - successes
    log_ways = gammaln(left + 1) - gammaln(more + 1) - gammaln(left - more + 1)
    return float(np.exp(log_ways + betaln(a + more, b + left - more) - betaln(a, b)).sum())


def curtailment_bound(seen: int, n: int, needed: int, gamma: float) -> int:
    """The largest success count after `seen` samples whose predictive probability is below gamma; -1 for none."""
    low, high = -1, seen + 1
    while high - low > 1:
        middle = (low + high) // 2
        if predictive_probability(middle, seen, n, needed) < gamma:
            low = middle
        else:
            high = middle
    return low
