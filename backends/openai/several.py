"""Answers drawn for one prompt, asked for in one request with `n`, so that the prompt is paid for once.

Requests that wait at the same moment and differ only in `repeat` and `seed` are put together. Each keeps an answer, a
cache key and a bill of its own: the first pays for the prompt and for the request, each for what it wrote.

With `n` the provider's seed applies to the whole request, and it is the first one's: the same seeds give the same
answers out of the response cache, while a provider that is asked again may draw others, the more so where the cache
holds a part of them. The first requests to come are the first answers.

What an endpoint does not answer (it passes over `n`, or gives fewer) is asked for one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from backends.errors import RequestError
from backends.meter import REPETITION
from backends.types import ChatRequest, ChatResponse, Usage

_COPIES = 200
"""Characters from which on equal drawn answers are taken for one: the server gave all of them the same seed."""

Outcome = ChatResponse | RequestError


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one request for several answers gave."""

    outcomes: Sequence[Outcome]
    """In the order of the requests; fewer than these where the endpoint gave fewer."""
    lost: int
    """Attempts before it that may have been billed."""


class Ask(Protocol):
    """Asks for as many answers as there are requests, which differ only in `repeat` and `seed`."""

    async def __call__(self, asked: Sequence[ChatRequest], lost: int = 0) -> Drawn:
        """Raise RequestError, with what all of them cost, where none is answered; `lost` as for `Connection.post`."""


@dataclass(frozen=True, slots=True)
class _Waiter:
    request: ChatRequest
    answer: asyncio.Future[ChatResponse]


@dataclass
class _Group:
    """Requests for answers to one prompt."""

    waiters: list[_Waiter] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def is_left(self) -> bool:
        """Whether nobody waits any more."""
        return all(waiter.answer.done() for waiter in self.waiters)


class Several:
    """Puts requests together. `join` may be called by many at once; belongs to one event loop."""

    def __init__(self, ask: Ask, price: Callable[[Usage], float | None], most: int) -> None:
        """`most` is how many answers one request may ask for."""
        self._ask = ask
        self._price = price
        self._most = most
        self._gathering: dict[object, _Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, request: ChatRequest) -> ChatResponse:
        """Answer a request, together with those that are alike. Raises as `ask` does."""
        # The meter numbers a trial's repetitions so; each of them pays for a prompt of its own, as in production.
        alike = replace(request, repeat=request.repeat // REPETITION, seed=0)
        loop = asyncio.get_running_loop()
        group = self._gathering.get(alike)
        if group is None:
            group = self._gathering[alike] = _Group()
            # All that were made ready together have come when the loop gets to this.
            loop.call_soon(self._close, alike, group)
        waiter = _Waiter(request, loop.create_future())
        group.waiters.append(waiter)
        if len(group.waiters) == self._most:
            del self._gathering[alike]
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            if group.task is not None and group.is_left:
                group.task.cancel()
            raise

    async def aclose(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close(self, alike: object, group: _Group) -> None:
        """Nobody joins any more: ask."""
        if self._gathering.get(alike) is group:
            del self._gathering[alike]
        group.task = asyncio.get_running_loop().create_task(self._answer(group))
        self._tasks.add(group.task)
        group.task.add_done_callback(self._tasks.discard)

    async def _answer(self, group: _Group) -> None:
        waiting = [waiter for waiter in group.waiters if not waiter.answer.done()]
        waiting.sort(key=lambda waiter: (waiter.request.repeat, waiter.request.seed))
        try:
            await self._settle(waiting)
        except BaseException as error:
            # What goes wrong for all of them: no key, no such host, or nobody who waits.
            for waiter in waiting:
                _tell(waiter, error)
            if not isinstance(error, Exception):
                raise

    async def _settle(self, waiting: Sequence[_Waiter]) -> None:
        """Give each waiter its answer or its error; those that got none ask by themselves."""
        if not waiting:
            return
        try:
            drawn = await self._ask([waiter.request for waiter in waiting])
        except RequestError as error:
            parts = shared(error.usage, [1] * len(waiting), error.usage.output_tokens, self._price)
            for waiter, usage in zip(waiting, parts, strict=True):
                _tell(waiter, _with(error, usage))
            return
        for waiter, outcome in zip(waiting, drawn.outcomes, strict=False):
            _tell(waiter, outcome)
        missing = waiting[len(drawn.outcomes) :]
        async with asyncio.TaskGroup() as tasks:
            for waiter in missing:
                tasks.create_task(self._alone(waiter, drawn.lost))

    async def _alone(self, waiter: _Waiter, lost: int) -> None:
        try:
            drawn = await self._ask([waiter.request], lost)
        except Exception as error:
            _tell(waiter, error)
        else:
            _tell(waiter, drawn.outcomes[0])


def shared(
    usage: Usage, weights: Sequence[int], most: int, price: Callable[[Usage], float | None]
) -> tuple[Usage, ...]:
    """The bill of several answers, answer by answer: what is summed over them is the bill.

    The prompt, the request, and all that is not the price of answer tokens are the first one's.

    Args:
        usage: The bill.
        weights: Of the answers: in these proportions the answer tokens are shared out.
        most: Tokens that no answer can have more of.
        price: What a usage costs.
    """
    if len(weights) == 1 or usage == Usage():
        return (usage, *(Usage() for _ in weights[1:]))
    tokens = _apportioned(usage.output_tokens, weights, most)
    rest = [Usage(output_tokens=count, cost_usd=_cost_of(usage, count, price)) for count in tokens[1:]]
    first_usd = usage.cost_usd
    for part in rest:
        first_usd = None if first_usd is None or part.cost_usd is None else first_usd - part.cost_usd
    return (replace(usage, output_tokens=tokens[0], cost_usd=first_usd), *rest)


def are_copies(texts: Sequence[str]) -> bool:
    """Whether these are hardly drawn one by one: long answers agree in every character only by the same seed."""
    return len(texts) > 1 and len(set(texts)) == 1 and len(texts[0]) >= _COPIES


def _cost_of(usage: Usage, tokens: int, price: Callable[[Usage], float | None]) -> float | None:
    """What so many of its answer tokens cost, at the tier of its prompt."""
    if usage.cost_usd is None:
        return None
    whole, without = price(usage), price(replace(usage, output_tokens=usage.output_tokens - tokens))
    return None if whole is None or without is None else whole - without


def _apportioned(total: int, weights: Sequence[int], most: int) -> list[int]:
    """Whole numbers in proportion to the weights that add up to the total; what is beyond `most` goes to the others."""
    whole = sum(weights)
    parts = [min(most, total * weight // whole) if whole else 0 for weight in weights]
    left = total - sum(parts)
    # Evenly as far as there is room for that, then wherever there is any.
    for most_more in (-(-left // len(parts)), left):
        for position, part in enumerate(parts):
            more = min(max(0, most - part), most_more, left)
            parts[position] += more
            left -= more
    parts[0] += left
    return parts


def _with(error: RequestError, usage: Usage) -> RequestError:
    """The same error for one of several waiters, with its part of the bill."""
    return type(error)(str(error), usage)


def _tell(waiter: _Waiter, outcome: Outcome | BaseException) -> None:
    if waiter.answer.done():
        return
    if isinstance(outcome, ChatResponse):
        waiter.answer.set_result(outcome)
    elif isinstance(outcome, asyncio.CancelledError):
        waiter.answer.cancel()
    else:
        waiter.answer.set_exception(outcome)
