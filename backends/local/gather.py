"""Turns concurrent awaits into batches that one thread works through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from backends.errors import BackendUnavailable

Ask = TypeVar("Ask")
Reply = TypeVar("Reply")

_SETTLE_SECONDS = 0.002
"""How long to wait for more before a batch starts, again while some come: nothing beside a forward pass."""


@dataclass(eq=False, slots=True)
class Ticket(Generic[Ask, Reply]):
    """One caller that waits."""

    ask: Ask
    future: asyncio.Future[Reply]

    @property
    def is_abandoned(self) -> bool:
        """True when nobody waits any more; may be asked from the working thread."""
        return self.future.done()


class Gather(Generic[Ask, Reply]):
    """Answers what is pending whenever its thread is free.

    Args:
        plan: Cuts asks into batches of indices; runs in the thread. An ask that can never be answered gets its
            exception in place of a batch.
        run: Answers one batch, in the thread; an exception in place of a reply fails only that ask. Tickets whose
            `is_abandoned` is true may be skipped with any exception.
    """

    def __init__(
        self,
        plan: Callable[[Sequence[Ticket[Ask, Reply]]], tuple[list[list[Ticket[Ask, Reply]]], dict[int, Exception]]],
        run: Callable[[Sequence[Ticket[Ask, Reply]]], Sequence[Reply | Exception]],
    ) -> None:
        self._plan = plan
        self._run = run
        self._pending: list[Ticket[Ask, Reply]] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="advisor-local")
        self._closed = False

    async def ask(self, ask: Ask) -> Reply:
        """Wait for the reply; cancelling lets the batch go on without this row."""
        if self._closed:
            raise BackendUnavailable("the model has been closed")
        loop = asyncio.get_running_loop()
        ticket: Ticket[Ask, Reply] = Ticket(ask, loop.create_future())
        self._pending.append(ticket)
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
        # A worker that is cancelled before its first step never sees them.
        _fail(self._pending, BackendUnavailable("the model has been closed"))
        self._thread.shutdown(wait=False)
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        taken: list[Ticket[Ask, Reply]] = []
        try:
            while self._pending:
                await self._settle()
                taken, self._pending = self._pending, []
                try:
                    await self._answer([ticket for ticket in taken if not ticket.is_abandoned])
                except Exception as error:
                    # The one place that must not lose an exception: every caller would wait for ever.
                    _fail(taken, error)
        except asyncio.CancelledError:
            _fail([*taken, *self._pending], BackendUnavailable("the model has been closed"))
            self._pending = []
            raise

    async def _settle(self) -> None:
        seen = -1
        while seen != len(self._pending):
            seen = len(self._pending)
            await asyncio.sleep(_SETTLE_SECONDS)

    async def _answer(self, tickets: Sequence[Ticket[Ask, Reply]]) -> None:
        loop = asyncio.get_running_loop()
        batches, refused = await loop.run_in_executor(self._thread, self._plan, tickets)
        for i, error in refused.items():
            _fail([tickets[i]], error)
        for batch in batches:
            replies = await loop.run_in_executor(self._thread, self._run, batch)
            for ticket, reply in zip(batch, replies, strict=True):
                if isinstance(reply, Exception):
                    _fail([ticket], reply)
                elif not ticket.future.done():
                    ticket.future.set_result(reply)


def _fail(tickets: Sequence[Ticket[Ask, Reply]], error: Exception) -> None:
    for ticket in tickets:
        if not ticket.future.done():
            ticket.future.set_exception(error)
