"""A hard cap on dollars that leave the house: the worst case is reserved before each call."""

from __future__ import annotations

import asyncio

from backends.errors import BudgetError
from evals.unsettled import Unsettled

_NOTHING_USD = 1e-9
"""No token costs as little, and what rounding leaves of sums of thousands of dollars is less."""


class Budget:
    """Dollars of one run. Without a limit it only counts."""

    def __init__(
        self, limit_usd: float | None = None, spent_usd: float = 0.0, unsettled: Unsettled | None = None
    ) -> None:
        """`unsettled` keeps what is reserved over a kill of the process; what it holds counts as spent or reserved."""
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd + (0.0 if unsettled is None else unsettled.lost_usd)
        """Billed so far, earlier sittings of the run included."""
        self._unsettled = unsettled
        self._reserved_usd = 0.0
        self._named_usd = 0.0
        """The part of it whose calls have a name."""
        self._settled = asyncio.Condition()

    async def reserve(self, worst_usd: float | None, model: str, name: str = "") -> float:
        """Set the worst case of a call aside and return it; waits for calls under way when these could use it up.

        A call that goes on when this process is gone has a `name`, the same in every sitting: what an earlier one
        reserved under it is taken up and not set aside twice. It must be settled, or left, under the same name.

        Raises BudgetError when it could overshoot the limit, or when its price is unknown and there is a limit.
        """
        if worst_usd is None:
            if self.limit_usd is None:
                return 0.0
            raise BudgetError(
                f"the price of {model} is not known, so no dollar budget can be kept. Give a price or drop budget.usd."
            )
        while self._exceeds(worst_usd, name):
            if not self._reserved_usd:
                raise BudgetError(self._refusal(worst_usd, model))
            async with self._settled:
                await self._settled.wait()
        self._take(worst_usd, name)
        return worst_usd

    async def settle(self, reserved_usd: float, spent_usd: float, name: str = "") -> None:
        """Give a reservation back and book what the call really cost."""
        self._give_back(reserved_usd, name)
        self.spent_usd += spent_usd
        if self._unsettled is not None:
            if name:
                self._unsettled.drop(name)
            else:
                self._unsettled.settled(self._unnamed_usd, self._left_usd)
        async with self._settled:
            self._settled.notify_all()

    async def leave(self, reserved_usd: float, name: str) -> None:
        """Stop waiting for a named call that goes on: what was reserved stays set aside for the next sitting."""
        self._give_back(reserved_usd, name)
        if self._unsettled is not None:
            self._unsettled.leave(name, reserved_usd)
        async with self._settled:
            self._settled.notify_all()

    def rest(self) -> None:
        """Before a long wait: where no call without a name is under way, a kill shall not make believe that one was."""
        if self._unsettled is not None and not self._unnamed_usd:
            self._unsettled.close()

    def _take(self, worst_usd: float, name: str) -> None:
        self._reserved_usd += worst_usd
        if name:
            self._named_usd += worst_usd
        if self._unsettled is None:
            return
        # Before the call is sent: a kill right after it must find the note.
        if name:
            self._unsettled.keep(name, worst_usd)
        else:
            self._unsettled.reserved(self._unnamed_usd, self._left_usd)

    def _give_back(self, reserved_usd: float, name: str) -> None:
        self._reserved_usd = _without(self._reserved_usd, reserved_usd)
        if name:
            self._named_usd = _without(self._named_usd, reserved_usd)

    def _exceeds(self, worst_usd: float, name: str) -> bool:
        if self.limit_usd is None:
            return False
        kept_usd = 0.0 if self._unsettled is None else self._unsettled.kept_beside(name)
        return self.spent_usd + self._reserved_usd + kept_usd + worst_usd > self.limit_usd

    @property
    def _unnamed_usd(self) -> float:
        return max(0.0, _without(self._reserved_usd, self._named_usd))

    @property
    def _left_usd(self) -> float | None:
        return None if self.limit_usd is None else max(0.0, self.limit_usd - self.spent_usd)

    def _refusal(self, worst_usd: float, model: str) -> str:
        kept = 0.0 if self._unsettled is None else self._unsettled.kept_beside("")
        waiting = f" and up to ${kept:.4g} in batches that go on" if kept else ""
        return (
            f"the next call to {model} could cost ${worst_usd:.4g}, which with ${self.spent_usd:.4g} spent{waiting} "
            f"would exceed the budget of ${self.limit_usd:.4g}. Raise it with --budget-usd and go on with --resume."
        )


def _without(total_usd: float, part_usd: float) -> float:
    """The difference; what is left of rounding alone is nothing."""
    left = total_usd - part_usd
    return left if abs(left) >= _NOTHING_USD else 0.0
