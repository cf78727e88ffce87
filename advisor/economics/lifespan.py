"""How long what is measured today lasts: models are shut down, trainings end, answers change. Pure.

Days are counted from the day on which the run began, so that a report written again says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advisor.scenario.model import Scenario, Volatility
    from backends.openai.lifecycle import Lifecycle

DAYS_PER_MONTH = 365.25 / 12
RETRAINING_MONTHS: Mapping[Volatility, float | None] = {
    "static": None,
    "monthly": 1.0,
    "weekly": 7 / DAYS_PER_MONTH,
    "daily": 1 / DAYS_PER_MONTH,
    "realtime": 1 / DAYS_PER_MONTH,
}
"""A tuned model knows what was right when it was trained: it is due again whenever answers change, at most daily."""


@dataclass(frozen=True, slots=True)
class Life:
    """How long a fine-tune serves."""

    planned: float
    """Months it is wanted for: the horizon, or until it must be trained again if that comes first."""
    limit: float | None
    """Months until its base model is shut down; None when no date is known. Not above 0 when it is gone already."""

    @property
    def months(self) -> float:
        """The shorter of the two, never below 0."""
        return self.planned if self.limit is None else max(0.0, min(self.planned, self.limit))


def retraining_months(scenario: Scenario) -> float | None:
    """Months until a tuned model must be trained again: the scenario's, else by how often its answers change."""
    stated = scenario.economics.retraining_months
    return RETRAINING_MONTHS[scenario.volatility] if stated is None else stated


def life(scenario: Scenario, shutdown: date | None, day: date) -> Life:
    """How long a fine-tune serves whose base is shut down on a day, if one is known."""
    again = retraining_months(scenario)
    planned = scenario.traffic.months if again is None else min(again, scenario.traffic.months)
    return Life(planned, None if shutdown is None else days_until(shutdown, day) / DAYS_PER_MONTH)


def days_until(end: date, day: date) -> int:
    """Days from the day of the run; negative when it is over."""
    return (end - day).days


def day_of(created: str) -> date:
    """The day on which a run began, of its ISO 8601 time."""
    return datetime.fromisoformat(created).date()


def shutdown_of(known: Lifecycle | None) -> date | None:
    """The day a model stops, where one is announced."""
    return None if known is None else known.shutdown
