"""A hard cap on dollars that leave the house: the worst case is reserved before each call."""

from __future__ import annotations

import asyncio

from backends.errors import BudgetError


class Budget:
    """Dollars of one run. Without a limit it only counts."""

    def __init__(self, limit_usd: float | None = None, spent_usd: float = 0.0) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        """Billed so far, earlier sittings of the run included."""
        self._reserved_usd = 0.0
        self._settled = asyncio.Condition()

    async def reserve(self, worst_usd: float | None, model: str) -> float:
        """Set the worst case of a call aside and return it; waits for calls under way when these could use it up.

        Raises BudgetError when it could overshoot the limit, or when its price is unknown and there is a limit.
        """
        if self.limit_usd is None:
            return 0.0
        if worst_usd is None:
            raise BudgetError(
                f"the price of {model} is not known, so no dollar budget can be kept. Give a price or drop budget.usd."
            )
        while self.spent_usd + self._reserved_usd + worst_usd > self.limit_usd:
            if not self._reserved_usd:
                raise BudgetError(
                    f"the next call to {model} could cost ${worst_usd:.4g}, which with ${self.spent_usd:.4g} spent "
                    f"would exceed the budget of ${self.limit_usd:.4g}. Raise it with --budget-usd and go on with "
                    "--resume."
                )
            async with self._settled:
                await self._settled.wait()
        self._reserved_usd += worst_usd
        return worst_usd

    async def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Give a reservation back and book what the call really cost."""
        self._reserved_usd -= reserved_usd
        if abs(self._reserved_usd) < 1e-12:
            self._reserved_usd = 0.0
        self.spent_usd += spent_usd
        async with self._settled:
            self._settled.notify_all()
