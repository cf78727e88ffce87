"""A chat model on this machine: concurrent requests run together and share what they begin with."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backends.errors import RequestError
from backends.local.catalog import Place, locate, require
from backends.local.device import chat_dtype, device, hourly_price
from backends.local.files import cache_folder, hash_of
from backends.local.gather import Gather, Ticket
from backends.local.heap import give_back
from backends.local.identity import fingerprint
from backends.local.rates import Rates, measure, rates_key, remember, remembered
from backends.types import ChatRequest, ChatResponse, Usage

if TYPE_CHECKING:
    from backends.local.decoder import Answer, Job
    from backends.local.engine import Engine


_Ticket = Ticket[ChatRequest, ChatResponse]

_DECODING = 2
"""Raised when the way answers are decoded changes, so that those remembered from before are not taken for its own."""


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
        self._gather: Gather[ChatRequest, ChatResponse] = Gather(self._serve)

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
        """Hash of weights, tokenizer, template, precision, library versions and way of decoding."""
        content = fingerprint(self._place, self._dtype, "llguidance")
        return hash_of({"model": content, "decoding": _DECODING})[:32]

    @functools.cached_property
    def rates(self) -> Rates:
        """Tokens a second on this machine; the first time on a machine this loads the model and measures."""
        key = rates_key(self._place, self._dtype, self._device)
        return remembered(key) or remember(key, self._name, measure(self._engine().decoder.model))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures should know."""
        # Not `rates`: who has answered nothing need not load the model to say so.
        known = remembered(rates_key(self._place, self._dtype, self._device))
        if known is None or not known.is_shared:
            return ()
        return (
            "Other work shared this machine when the speed of its models was measured: their seconds and dollars may "
            f"be too high. Delete {cache_folder() / 'rates'} to have it measured again.",
        )

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage: tokens at this machine's rates and hourly price."""
        return None if self._usd_per_hour is None else self.rates.cost(usage, self._usd_per_hour)

    def worst_case(self, request: ChatRequest) -> Usage:
        """The prompt's tokens, counted, and the longest answer allowed."""
        job = self._engine().job(request)
        return self._priced(Usage(requests=1, input_tokens=len(job.ids), output_tokens=job.limit))

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer one request, beside the others that wait at the same time."""
        return await self._gather.ask(request)

    async def aclose(self) -> None:
        """Fail what waits, stop after the step at hand and free the weights."""
        await self._gather.aclose()
        if self._loaded is not None:
            self._loaded.decoder.forget()
            self._loaded = None
            give_back()

    def _engine(self) -> Engine:
        with self._loading:
            if self._loaded is None:
                from backends.local.engine import Engine

                self._loaded = Engine.load(self._name, self._place, self._dtype, self._device)
            return self._loaded

    def _priced(self, usage: Usage) -> Usage:
        return Usage(usage.requests, usage.input_tokens, usage.cached_tokens, usage.output_tokens, self.price(usage))

    def _serve(self, take: Callable[[], Sequence[_Ticket]]) -> None:
        """Answer what arrives; runs in the model's thread."""
        engine = self._engine()
        # Measured before the first answer rather than in `price`, which the event loop may call.
        _ = self.rates
        tickets: dict[Job, _Ticket] = {}

        def jobs() -> list[Job]:
            new = [(self._job(engine, ticket), ticket) for ticket in take()]
            tickets.update((job, ticket) for job, ticket in new if job is not None)
            return [job for job, _ in new if job is not None]

        engine.serve(jobs, lambda job, answer: tickets.pop(job).give(self._reply(job, answer)))

    def _job(self, engine: Engine, ticket: _Ticket) -> Job | None:
        try:
            job = engine.job(ticket.ask)
        except RequestError as error:
            ticket.give(error)
            return None
        job.is_abandoned = ticket.future.done
        return job

    def _reply(self, job: Job, answer: Answer | RequestError) -> ChatResponse | RequestError:
        if isinstance(answer, RequestError):
            return answer
        # A shared prefix is not credited as cached tokens: see Rates.seconds.
        usage = self._priced(Usage(requests=1, input_tokens=len(job.ids), output_tokens=len(answer.ids)))
        # Not the seconds of its batch, which tell how the evaluation was queued and not what a user would wait.
        seconds = self.rates.seconds(usage)
        first = self.rates.seconds(replace(usage, output_tokens=0))
        return ChatResponse(answer.text, usage, seconds, answer.finish_reason, (), answer.logprob, first)
