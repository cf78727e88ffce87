"""From requests to a decoder's jobs, who runs with whom, and through the limits of memory."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence

from backends.errors import RequestError
from backends.local.batches import Limits, shared_prefix
from backends.local.catalog import Place
from backends.local.constrain import schema_grammar
from backends.local.decoder import Answer, Batch, Decoder, Job
from backends.local.heap import keep_freed_memory
from backends.local.loading import load
from backends.local.memory import batch_limits, is_out_of_memory
from backends.local.weights import pack
from backends.types import ChatRequest

Take = Callable[[], Sequence[Job]]
Give = Callable[[Job, Answer | RequestError], None]


class Engine:
    """A decoder with the limits that its memory sets."""

    def __init__(self, decoder: Decoder, limits: Limits) -> None:
        self.decoder = decoder
        self.limits = limits

    @classmethod
    def load(cls, name: str, place: Place, dtype: str, device: str) -> Engine:
        """Open the model at `place`."""
        model, prompts = load(name, place, dtype, device)
        if device == "cpu":
            keep_freed_memory()
            pack(model)
        decoder = Decoder(model, prompts)
        return cls(decoder, batch_limits(model, joining=decoder.cascades))

    def job(self, request: ChatRequest) -> Job:
        """What the decoder is to do for a request. Raises RequestError when it can never be done."""
        if request.max_tokens < 1:
            raise RequestError(f"max_tokens must be at least 1, not {request.max_tokens}.")
        if request.choices and request.json_schema is not None:
            raise RequestError("a request takes choices or json_schema, not both.")
        job = Job(
            ids=tuple(self.decoder.prompts.encode(request.messages)),
            limit=request.max_tokens,
            temperature=request.temperature,
            # Repeats of a sampled request are to differ, reproducibly; 7919 keeps them off the neighbours' seeds.
            seed=request.seed + 7919 * request.repeat,
            stop=request.stop,
            logprobs=request.logprobs,
        )
        if request.choices:
            self._choose(job, request.choices)
        elif request.json_schema is not None:
            job.grammar = schema_grammar(request.json_schema)
        self.decoder.check(job)
        return job

    def answer(self, jobs: Sequence[Job]) -> list[Answer | RequestError]:
        """Answer these jobs and no others, in order."""
        waiting = [jobs]
        found: dict[Job, Answer | RequestError] = {}
        self.serve(lambda: waiting.pop() if waiting else [], found.__setitem__)
        return [found[job] for job in jobs]

    def serve(self, take: Take, give: Give) -> None:
        """Answer jobs until none is left.

        Args:
            take: The jobs that have arrived since it was last called; asked between steps, so that they join those
                that run as soon as there is room.
            give: Called with each job's answer as soon as it is known.
        """
        waiting = _Waiting(self)
        batch = Batch(self.decoder)
        while True:
            waiting.add(take())
            group = waiting.next_for(batch)
            if batch.is_empty and not group:
                return
            if not self._advance(batch, group):
                left = [*batch.jobs, *group]
                batch = Batch(self.decoder)
                self.decoder.forget()
                waiting.put_back(self._fewer(left, give))
            for job, answer in batch.finished():
                give(job, answer)

    def groups(self, jobs: Sequence[Job]) -> list[list[int]]:
        """Cut jobs into groups that are admitted together; returns indices.

        Where groups can join a batch that runs each takes half of its room: one is computed while another decodes.
        """
        limits = self.limits
        if self.decoder.cascades:
            limits = dataclasses.replace(
                limits, rows=max(1, limits.rows // 2), held_tokens=max(1, limits.held_tokens // 2)
            )
        return self.decoder.plan(jobs, limits)

    def has_room(self, batch: Batch, group: Sequence[Job]) -> bool:
        """Whether the group may start beside what runs."""
        if not batch.jobs:
            return True
        both = [*batch.jobs, *group]
        if not self.decoder.cascades or len(both) > self.limits.rows:
            return False
        shared = shared_prefix([job.ids for job in both])
        return len(both) * max(len(job.ids) - shared + job.limit for job in both) <= self.limits.held_tokens

    def _advance(self, batch: Batch, group: Sequence[Job]) -> bool:
        """Admit a group, or without one make a step; False when memory ran out."""
        # The traceback of an exception that is still handled would keep the failed batch's tensors alive.
        try:
            if group:
                batch.admit(group)
            else:
                batch.step()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _fewer(self, jobs: Sequence[Job], give: Give) -> Sequence[Job]:
        """After memory ran out, allow half of what ran; returns what is to be begun again."""
        if len(jobs) == 1:
            give(jobs[0], RequestError(f"not enough memory for a prompt of {len(jobs[0].ids)} tokens."))
            return []
        self.limits = dataclasses.replace(self.limits, rows=max(1, min(self.limits.rows, len(jobs)) // 2))
        return jobs

    def _choose(self, job: Job, choices: tuple[str, ...]) -> None:
        """Bind the job to its choices, one of which is given whole, whatever `max_tokens` and `stop` say."""
        job.choices, job.grammar = self.decoder.choices(choices)
        job.stop = ()
        # No token is shorter than a byte, one more may end the answer.
        most = max(len(choice.encode()) for choice in choices) + 1
        job.limit = most if job.choices is None else job.choices.longest


class _Waiting:
    """Jobs that do not run yet, in groups that are admitted together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._fresh: list[Job] = []
        self._groups: deque[list[Job]] = deque()

    def add(self, jobs: Sequence[Job]) -> None:
        """Take note of new jobs; they are grouped when their turn comes, with what has arrived by then."""
        self._fresh += jobs

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Group everything anew, these jobs included, by the limits as they are now."""
        self._fresh = [*jobs, *(job for group in self._groups for job in group), *self._fresh]
        self._groups.clear()

    def next_for(self, batch: Batch) -> list[Job]:
        """The group that is to join the batch now; none while there is no room, or nothing waits."""
        if not self._groups and self._fresh:
            jobs, self._fresh = [job for job in self._fresh if not job.is_abandoned()], []
            self._groups.extend([jobs[i] for i in group] for group in self._engine.groups(jobs))
        while self._groups and self._engine.has_room(batch, self._groups[0]):
            group = [job for job in self._groups.popleft() if not job.is_abandoned()]
            if group:
                return group
        return []
