"""How many requests an endpoint gets at once: more while it keeps up, fewer when it says that it is too much.

The limit starts at the most. Each answer of 429 or 503 puts it below what is under way at that moment, so that a burst
of which the endpoint takes four ends near four after one round trip; it then grows by about one per limit's worth of
answers. All models of an endpoint share one limit, so candidates do not push each other over it.

Places are opened one a turn of the event loop. The loop takes a step of each task in turn, so two hundred requests that
began in one turn would all be prepared before the first of them is sent; their answers would come together too, and
the endpoint would wait for us again and again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Limiter:
    """Admits requests in the order they came. Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        self.limit = float(most)
        """Requests at once that the endpoint is thought to bear."""
        self._most = most
        self._active = 0
        self._opened = 0
        """Places there have been since nothing was under way; one that is given back is taken again at once."""
        self._is_opening = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def active(self) -> int:
        """Requests under way."""
        return self._active

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a place and hold it."""
        await self._enter()
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                # The next crowd begins as the first did.
                self._opened = 0
            self._admit()

    def succeeded(self) -> None:
        """An answer came: try a little more."""
        self.limit = min(float(self._most), self.limit + 1.0 / self.limit)

    def overloaded(self) -> None:
        """The endpoint said too much to a request under way: what it bears is less than that."""
        self.limit = max(1.0, min(self.limit, self._active - 1.0))

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if until > self._paused_until:
            self._paused_until = until
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = loop.call_at(until, self._admit)

    def close(self) -> None:
        """Forget the alarm."""
        if self._alarm is not None:
            self._alarm.cancel()

    async def _enter(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # Admitted and cancelled in the same step: hand the place on.
                self._active -= 1
            self._admit()
            raise

    def _has_room(self) -> bool:
        return self._active < int(self.limit) and asyncio.get_running_loop().time() >= self._paused_until

    def _admit(self) -> None:
        while self._active < self._opened and self._waiting and self._has_room():
            place = self._waiting.popleft()
            if not place.done():
                self._active += 1
                place.set_result(None)
        if self._waiting and self._has_room() and not self._is_opening:
            self._is_opening = True
            asyncio.get_running_loop().call_soon(self._open_place)

    def _open_place(self) -> None:
        self._is_opening = False
        self._opened = max(self._opened, self._active + 1)
        self._admit()
