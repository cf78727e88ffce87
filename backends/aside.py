"""Meters for parts of a candidate: another model as its own, requests changed, answers overheard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from backends.meter import Meter
from backends.types import ChatRequest, ChatResponse, Usage

Change = Callable[[ChatRequest], ChatRequest]


def unchanged(request: ChatRequest) -> ChatRequest:
    """Leaves a request as it is."""
    return request


class Aside(Meter):
    """Counts apart what one part of the work asks of the models of a meter."""

    def __init__(self, whole: Meter, change: Change, on: str | None) -> None:
        """`on` names the model that the part takes for the candidate's own."""
        later = whole._rewrite or unchanged
        super().__init__(
            whole._model(on),
            repeat=whole._repeat,
            helpers=whole._helpers,
            rewrite=lambda request: later(change(request)),
        )
        self.heard: list[ChatResponse] = []
        """All answers, in their order."""

    async def complete_all(self, requests: Sequence[ChatRequest], on: str | None = None) -> list[ChatResponse]:
        """Ask side by side, and remember the answers."""
        answered = await super().complete_all(requests, on)
        self.heard += answered
        return answered


@contextmanager
def asides(whole: Meter, changes: Sequence[Change] = (unchanged,), on: str | None = None) -> Iterator[list[Aside]]:
    """One meter for each change. What they count goes to the whole in the end, also when the work fails.

    The parts work side by side: the seconds are those of the slowest. Steps of a single part are kept without their
    cost; those of several are not, since steps of work done side by side would not add up.
    """
    parts = [Aside(whole, change, on) for change in changes]
    try:
        yield parts
    finally:
        if len(parts) == 1:
            # What they gave, for whoever wants to know what was looked up; what they took counts for the step around.
            whole.steps += [replace(step, usage=Usage(), seconds=0.0) for step in parts[0].steps]
        for part in parts:
            whole._count(part.usage, 0.0, False)
            whole.cached_requests += part.cached_requests
            whole.response_keys += part.response_keys
        whole.spend_seconds(max(part.seconds for part in parts))
