"""What a test is worth: whether it can pay, and what accepting an unproved candidate is expected to lose.

Standard decision theory with a Beta posterior under a uniform prior; graded scores are treated as if they were 0/1
with the same mean, which has the largest variance and so errs towards uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, betaincinv

from evals.statistics.boundaries import Design
from evals.statistics.operating import operating


@dataclass(frozen=True, slots=True)
class Stakes:
    """What is known before a test about whether it can pay."""

    usd_per_1k: float
    """Production cost of the candidate per 1,000 requests."""
    fallback_usd_per_1k: float
    """Production cost of what would be used instead of it."""
    requests: float
    """Requests over the horizon."""
    feasible: float
    """Probability that the candidate reaches the target."""
    samples: float
    """Expected length of its test."""

    @property
    def test_usd(self) -> float:
        """Expected cost of the test in dollars."""
        return self.usd_per_1k * self.samples / 1000.0

    @property
    def gain_usd(self) -> float:
        """Expected saving over the horizon in dollars; negative when the fallback is cheaper."""
        return self.feasible * (self.fallback_usd_per_1k - self.usd_per_1k) * self.requests / 1000.0

    @property
    def pays(self) -> bool:
        """Whether the test is expected to cost no more than it may save."""
        return self.test_usd <= self.gain_usd


def posterior(mean: float | None, n: int) -> tuple[float, float]:
    """Parameters (a, b) of the Beta posterior after n scores with this mean; uniform without scores."""
    successes = 0.0 if mean is None else n * mean
    return 1.0 + successes, 1.0 + (n if mean is not None else 0) - successes


def feasibility(mean: float | None, n: int, target: float) -> float:
    """Posterior probability that the mean reaches the target, from n dev scores with this mean."""
    return float(1.0 - betainc(*posterior(mean, n), target))


def expected_samples(design: Design, mean: float | None, n: int) -> float:
    """Expected length of the test under the posterior of n dev scores, by nine posterior quantiles."""
    a, b = posterior(mean, n)
    quantiles = betaincinv(a, b, (np.arange(9) + 0.5) / 9.0)
    return float(np.mean([operating(design, float(p)).mean_samples for p in quantiles]))


def expected_shortfall(mean: float, n: int, target: float) -> float:
    """E[(target - mu)+] under the posterior of n scores with this mean: what accepting the candidate may lack.

    tau I_tau(a, b) - a / (a + b) I_tau(a + 1, b) with mu ~ Beta(a, b); in score units per request.
    """
    a, b = posterior(mean, n)
    return float(target * betainc(a, b, target) - a / (a + b) * betainc(a + 1.0, b, target))
