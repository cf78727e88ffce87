"""What the user wants to reach, in the terms the decision is made in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["strict", "tolerant", "careful"]


@dataclass(frozen=True, slots=True)
class Goal:
    """The target and what else a candidate must keep to."""

    target: float
    """Mean score a candidate must reach, in (0, 1)."""
    margin: float = 0.03
    """A candidate this far above the target must not be missed; in score units."""
    confidence: float = 0.95
    """Family-wise confidence that a picked candidate meets the target."""
    max_usd_per_1k_requests: float | None = None
    max_p95_seconds: float | None = None
    max_error_rate: float = 0.01
    """Largest share of trials that may fail."""
    mode: Mode = "strict"

    @property
    def alpha(self) -> float:
        """Probability, over the whole family of candidates, of picking one that misses the target."""
        # 1 - 0.95 is 0.05 and some dust in binary; boundaries are computed, cached and reported for 0.05.
        return round(1.0 - self.confidence, 12)
