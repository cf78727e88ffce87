"""A chat model on this machine: concurrent requests are gathered into batches that share their prefix."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backends.errors import RequestError
from backends.local.catalog import Place, locate, require
from backends.local.device import chat_dtype, device, hourly_price
from backends.local.gather import Gather, Ticket
from backends.local.identity import fingerprint
from backends.local.rates import Rates, measure, rates_key, remember, remembered
from backends.types import ChatRequest, ChatResponse, Usage

if TYPE_CHECKING:
    from backends.local.decoder import Job
    from backends.local.engine import Engine


@dataclass(slots=True)
class _Ask:
    request: ChatRequest
    job: Job | None = None
    """What the decoder is to do, once the tokenizer has been there."""


_Ticket = Ticket[_Ask, ChatResponse]


class LocalChat:
    """Implements ChatModel with transformers. Weights are loaded when they are first needed."""

    billed = False
    native_tools = False
    """Calls are asked for in a prompted form, whose grammar is enforced: valid whatever the model was trained on."""

    def __init__(self, name: str, place: Place, *, usd_per_hour: float | None, dtype: str | None = None) -> None:
        self._name = name
        self._place = place
        self._device = device()
        self._dtype = dtype or chat_dtype(self._device)
        self._usd_per_hour = hourly_price(self._device, usd_per_hour)
        self._loaded: Engine | None = None
        self._loading = threading.Lock()
        self._gather: Gather[_Ask, ChatResponse] = Gather(self._plan, self._run)

    @classmethod
    def open(
        cls, name: str, *, usd_per_hour: float | None = None, folder: Path | None = None, dtype: str | None = None
    ) -> LocalChat:
        """Open `local/...`; `folder` is where a tuned model lies. Raises InputError, or answers in milliseconds."""
        place = locate(name, folder)
        require(name, place)
        return cls(name, place, usd_per_hour=usd_per_hour, dtype=dtype)

    @property
    def name(self) -> str:
        """The model's name as the user wrote it."""
        return self._name

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, template, precision and library versions."""
        return fingerprint(self._place, self._dtype, "llguidance")

    @functools.cached_property
    def rates(self) -> Rates:
        """Tokens a second on this machine; the first time on a machine this loads the model and measures."""
        key = rates_key(self._place, self._dtype, self._device)
        return remembered(key) or remember(key, self._name, measure(self._engine().decoder.model))

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage: tokens at this machine's rates and hourly price."""
        return None if self._usd_per_hour is None else self.rates.cost(usage, self._usd_per_hour)

    def worst_case(self, request: ChatRequest) -> Usage:
        """The prompt's tokens, counted, and the longest answer allowed."""
        job = self._engine().job(request)
        return self._priced(Usage(requests=1, input_tokens=len(job.ids), output_tokens=job.limit))

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer one request, in a batch with others that wait at the same time."""
        return await self._gather.ask(_Ask(request))

    async def aclose(self) -> None:
        """Fail what waits, stop after the step at hand and free the weights."""
        await self._gather.aclose()
        if self._loaded is not None:
            self._loaded.decoder.forget()
            self._loaded = None
            gc.collect()

    def _engine(self) -> Engine:
        with self._loading:
            if self._loaded is None:
                from backends.local.engine import Engine

                self._loaded = Engine.load(self._name, self._place, self._dtype, self._device)
            return self._loaded

    def _priced(self, usage: Usage) -> Usage:
        return Usage(usage.requests, usage.input_tokens, usage.cached_tokens, usage.output_tokens, self.price(usage))

    def _plan(self, tickets: Sequence[_Ticket]) -> tuple[list[list[_Ticket]], dict[int, Exception]]:
        engine = self._engine()
        # Measured before the first answer rather than in `price`, which the event loop may call.
        _ = self.rates
        refused: dict[int, Exception] = {}
        accepted: list[tuple[_Ticket, Job]] = []
        for i, ticket in enumerate(tickets):
            try:
                job = engine.job(ticket.ask.request)
            except RequestError as error:
                refused[i] = error
                continue
            job.is_abandoned = ticket.future.done
            ticket.ask.job = job
            accepted.append((ticket, job))
        batches = engine.plan([job for _, job in accepted])
        return [[accepted[at][0] for at in batch] for batch in batches], refused

    def _run(self, tickets: Sequence[_Ticket]) -> list[ChatResponse | Exception]:
        jobs = [job for ticket in tickets if (job := ticket.ask.job) is not None]
        replies: list[ChatResponse | Exception] = []
        for job, answer in zip(jobs, self._engine().answer(jobs), strict=True):
            if isinstance(answer, Exception):
                replies.append(answer)
                continue
            # A shared prefix is not credited as cached tokens: see Rates.seconds.
            usage = self._priced(Usage(requests=1, input_tokens=len(job.ids), output_tokens=len(answer.ids)))
            # Not the seconds of its batch, which tell how the evaluation was queued and not what a user would wait.
            replies.append(ChatResponse(answer.text, usage, self.rates.seconds(usage), answer.finish_reason))
        return replies
