"""Turns concurrent awaits into one stream of work for one thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from backends.errors import BackendUnavailable

Ask = TypeVar("Ask")
Reply = TypeVar("Reply")

_SETTLE_SECONDS = 0.002
"""How long to wait for more before work starts, again while some come: nothing beside a forward pass."""


@dataclass(eq=False, slots=True)
class Ticket(Generic[Ask, Reply]):
    """One caller that waits. May be used from the working thread."""

    ask: Ask
    future: asyncio.Future[Reply]
    loop: asyncio.AbstractEventLoop

    @property
    def is_abandoned(self) -> bool:
        """True when nobody waits any more."""
        return self.future.done()

    def give(self, reply: Reply | Exception) -> None:
        """Wake the caller with a reply or an exception; the first counts."""
        # Raised when the caller's event loop is closed: then nobody waits.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._settle, reply)

    def _settle(self, reply: Reply | Exception) -> None:
        if self.future.done():
            return
        if isinstance(reply, Exception):
            self.future.set_exception(reply)
        else:
            self.future.set_result(reply)


class Gather(Generic[Ask, Reply]):
    """Hands what is pending to one thread.

    Args:
        serve: Runs in the thread: gives every ticket its reply, calls its argument for those that have arrived
            meanwhile, and returns when there are none. An exception fails all tickets that are not answered.
    """

    def __init__(self, serve: Callable[[Callable[[], Sequence[Ticket[Ask, Reply]]]], None]) -> None:
        self._serve = serve
        self._arrived: deque[Ticket[Ask, Reply]] = deque()
        self._taken: list[Ticket[Ask, Reply]] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="advisor-local")
        self._closed = False

    async def ask(self, ask: Ask) -> Reply:
        """Wait for the reply; cancelling lets the work go on without this row."""
        if self._closed:
            raise BackendUnavailable("the model has been closed")
        loop = asyncio.get_running_loop()
        ticket: Ticket[Ask, Reply] = Ticket(ask, loop.create_future(), loop)
        self._arrived.append(ticket)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return await ticket.future

    async def aclose(self) -> None:
        """Fail what waits and let the thread end after the step it is in."""
        self._closed = True
        worker = self._worker
        if worker is not None and not worker.done() and worker.get_loop() is asyncio.get_running_loop():
            worker.cancel()
            await asyncio.wait([worker])
        self._fail(BackendUnavailable("the model has been closed"))
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        try:
            while self._arrived:
                await self._settle()
                await asyncio.get_running_loop().run_in_executor(self._thread, self._run)
        except asyncio.CancelledError:
            self._fail(BackendUnavailable("the model has been closed"))
            raise

    async def _settle(self) -> None:
        seen = -1
        while seen != len(self._arrived):
            seen = len(self._arrived)
            await asyncio.sleep(_SETTLE_SECONDS)

    def _run(self) -> None:
        try:
            self._serve(self._take)
        except Exception as error:
            # The one place that must not lose an exception: every caller would wait for ever.
            self._fail(error)

    def _take(self) -> list[Ticket[Ask, Reply]]:
        """What has arrived and is still waited for."""
        new: list[Ticket[Ask, Reply]] = []
        with suppress(IndexError):
            while True:
                new.append(self._arrived.popleft())
        self._taken = [ticket for ticket in (*self._taken, *new) if not ticket.is_abandoned]
        return [ticket for ticket in new if not ticket.is_abandoned]

    def _fail(self, error: Exception) -> None:
        for ticket in [*self._taken, *self._take()]:
            ticket.give(error)
