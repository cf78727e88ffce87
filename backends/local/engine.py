"""From requests to a decoder's jobs, and through its memory limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from backends.errors import RequestError
from backends.local.batches import Limits
from backends.local.catalog import Place
from backends.local.constrain import choices_grammar, schema_grammar
from backends.local.decoder import Answer, Decoder, Job
from backends.local.loading import load
from backends.local.memory import batch_limits, is_out_of_memory
from backends.types import ChatRequest


class Engine:
    """A decoder with the limits that its memory sets."""

    def __init__(self, decoder: Decoder, limits: Limits) -> None:
        self.decoder = decoder
        self.limits = limits

    @classmethod
    def load(cls, name: str, place: Place, dtype: str, device: str) -> Engine:
        """Open the model at `place`."""
        model, prompts = load(name, place, dtype, device)
        return cls(Decoder(model, prompts), batch_limits(model))

    def job(self, request: ChatRequest) -> Job:
        """What the decoder is to do for a request. Raises RequestError when it can never be done."""
        if request.max_tokens < 1:
            raise RequestError(f"max_tokens must be at least 1, not {request.max_tokens}.")
        if request.choices and request.json_schema is not None:
            raise RequestError("a request takes choices or json_schema, not both.")
        grammar, limit = None, request.max_tokens
        if request.choices:
            grammar = choices_grammar(request.choices)
            # A choice is given whole whatever max_tokens says; no token is shorter than a byte, one more may end it.
            limit = max(len(choice.encode()) for choice in request.choices) + 1
        elif request.json_schema is not None:
            grammar = schema_grammar(request.json_schema)
        job = Job(
            ids=tuple(self.decoder.prompts.encode(request.messages)),
            limit=limit,
            temperature=request.temperature,
            seed=request.seed,
            stop=request.stop,
            grammar=grammar,
        )
        self.decoder.check(job)
        return job

    def plan(self, jobs: Sequence[Job]) -> list[list[int]]:
        """Cut the jobs into batches; returns indices."""
        return self.decoder.plan(jobs, self.limits)

    def answer(self, jobs: Sequence[Job]) -> list[Answer | RequestError]:
        """Answer one batch; out of memory, halve it, now and in later plans."""
        failed = False
        try:
            return self.decoder.answer(jobs)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            failed = True
        # Outside of the handler, whose traceback would keep the failed batch's tensors alive.
        assert failed
        self.decoder.forget()
        if len(jobs) == 1:
            return [RequestError(f"not enough memory for a prompt of {len(jobs[0].ids)} tokens.")]
        half = len(jobs) // 2
        self.limits = dataclasses.replace(self.limits, rows=max(1, min(self.limits.rows, half)))
        return [*self.answer(jobs[:half]), *self.answer(jobs[half:])]
