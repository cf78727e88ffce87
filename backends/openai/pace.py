"""How often a job is looked at: soon at first, then less and less."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between looks at something that takes its time."""

    first_seconds: float = 1.0
    most_seconds: float = 30.0
    growth: float = 1.5

    def after(self, looks: int) -> float:
        """Seconds to wait after so many looks."""
        return min(self.most_seconds, self.first_seconds * self.growth ** min(looks, 50))
