"""Batched generation for any decoder model that transformers loads.

Rows run together and leave as they finish; where the model allows it others join between steps. In float32 the
answers are those of one-by-one `generate`, token for token.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from backends.errors import RequestError
from backends.local.batches import Limits, plan
from backends.local.batches import Prompt as Planned
from backends.local.constrain import Form, Grammars, choices_grammar
from backends.local.labels import Trie
from backends.local.prefixes import Prefixes
from backends.local.prompts import Prompts
from backends.local.sampling import logprob, pick, repetition_penalty
from backends.local.sharing import ways
from backends.local.trees import groups
from backends.types import FinishReason


@dataclass(slots=True, eq=False)
class Job:
    """One prompt to answer."""

    ids: tuple[int, ...]
    limit: int
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    grammar: str | None = None
    choices: Trie | None = None
    """When given, the answer is one of these and `grammar` is not looked at."""
    logprobs: bool = False
    """Whether `Answer.logprob` is wanted."""
    is_abandoned: Callable[[], bool] = lambda: False
    """Asked between steps: True when nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said."""

    text: str
    ids: tuple[int, ...]
    """Generated tokens, the one that ends the turn included if the model was asked for it."""
    finish_reason: FinishReason
    logprob: float | None = None
    """Natural logarithm of the probability of `ids`, at each place among the tokens that the form allows."""


@dataclass(slots=True)
class _Row:
    job: Job
    generator: torch.Generator | None
    form: Form | None
    ids: list[int] = field(default_factory=list)
    computed: int = 0
    """How many of `ids` the model has seen."""
    logprob: float = 0.0
    result: Answer | RequestError | None = None


class Decoder:
    """Answers prompts with one model. Not for use by two threads at once."""

    def __init__(self, model: PreTrainedModel, prompts: Prompts) -> None:
        self.model: Any = model
        self.prompts = prompts
        self.device = model.device
        self.window: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.penalty = repetition_penalty(model)
        self._prefixes = Prefixes()
        self._tries: dict[tuple[str, ...], Trie | None] = {}
        self.start, self.shares = ways(model, self._prefixes)

    def plan(self, jobs: Sequence[Job], limits: Limits) -> list[list[int]]:
        """Cut the jobs into groups that are admitted together; returns indices."""
        prompts = [Planned(job.ids, job.limit) for job in jobs]
        return groups(prompts, limits) if self.cascades else plan(prompts, limits, padded=self.shares)

    @functools.cached_property
    def cascades(self) -> bool:
        """Whether rows share prefixes without copies and join a batch that runs."""
        return self.start().can_join

    def check(self, job: Job) -> None:
        """Raise RequestError when the job can never be answered."""
        if self.window is not None and len(job.ids) >= self.window:
            raise RequestError(f"the prompt has {len(job.ids)} tokens; the model's context window holds {self.window}.")
        self.form(job)

    def choices(self, choices: tuple[str, ...]) -> tuple[Trie | None, str | None]:
        """A trie of the choices, or else a grammar for a tokenizer that spells two of them alike."""
        if choices not in self._tries:
            paths = [(choice, self.prompts.encode_answer(choice)[:-1]) for choice in choices]
            self._tries[choices] = Trie.of(paths, self._end_of_turn)
        trie = self._tries[choices]
        return (trie, None) if trie is not None else (None, choices_grammar(choices))

    def answer(self, jobs: Sequence[Job]) -> list[Answer | RequestError]:
        """Answer the jobs in one batch, in order. Lets errors about memory pass."""
        batch = Batch(self)
        batch.admit(jobs)
        found: dict[int, Answer | RequestError] = {}
        while not batch.is_empty:
            batch.step()
            found |= {id(job): result for job, result in batch.finished()}
        return [found[id(job)] for job in jobs]

    def forget(self) -> None:
        """Free what is kept for speed."""
        self._prefixes.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def form(self, job: Job) -> Form | None:
        """The form that the job's answer must have, at its beginning."""
        if job.choices is not None:
            return job.choices.start()
        return None if job.grammar is None else self._grammars.start(job.grammar)

    def limit(self, job: Job) -> int:
        """Most tokens the answer can have."""
        return job.limit if self.window is None else min(job.limit, self.window - len(job.ids))

    @functools.cached_property
    def _grammars(self) -> Grammars:
        logits = self.model.get_output_embeddings().weight.shape[0]
        return Grammars(self.prompts.tokenizer, self.prompts.eos_ids, logits)

    @functools.cached_property
    def _end_of_turn(self) -> int | None:
        return self.prompts.end_of_turn if self.prompts.eos_ids else None


class Batch:
    """Prompts that are being answered."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._rows: list[_Row] = []
        self._state = decoder.start()
        self._finished: list[_Row] = []

    @property
    def jobs(self) -> list[Job]:
        """What runs."""
        return [row.job for row in self._rows]

    @property
    def is_empty(self) -> bool:
        """True when nothing runs and nothing is to be fetched."""
        return not self._rows and not self._finished

    def finished(self) -> list[tuple[Job, Answer | RequestError]]:
        """The answers since the last call."""
        rows, self._finished = self._finished, []
        return [(row.job, row.result or RequestError("nobody waits for the answer any more")) for row in rows]

    @torch.inference_mode()
    def admit(self, jobs: Sequence[Job]) -> None:
        """Start jobs; each has its first token afterwards."""
        rows = [_Row(job, self._generator(job), self._decoder.form(job)) for job in jobs]
        logits = self._state.admit([job.ids for job in jobs])
        self._rows += rows
        self._choose(rows, logits)
        self._drop()

    @torch.inference_mode()
    def step(self) -> None:
        """Give every row that runs its next token."""
        if not self._rows:
            return
        logits = self._state.extend([row.ids[row.computed :] for row in self._rows])
        for row in self._rows:
            row.computed = len(row.ids)
        self._choose(self._rows, logits)
        self._drop()

    def _choose(self, rows: Sequence[_Row], logits: torch.Tensor) -> None:
        """Add a token to each row, and finish those for which it was the last."""
        for row, token in zip(rows, self._next_tokens(rows, logits), strict=True):
            try:
                self._extend(row, token)
            except RequestError as error:
                row.result = error

    def _drop(self) -> None:
        keep = [i for i, row in enumerate(self._rows) if row.result is None and not row.job.is_abandoned()]
        if len(keep) == len(self._rows):
            return
        kept = set(keep)
        self._finished += [row for i, row in enumerate(self._rows) if i not in kept]
        self._rows = [self._rows[i] for i in keep]
        self._state.keep(keep)

    def _next_tokens(self, rows: Sequence[_Row], logits: torch.Tensor) -> list[int]:
        """The next token of each row, by its own form, temperature and generator."""
        for row, scores in zip(rows, logits, strict=True):
            if self._decoder.penalty is not None:
                self._decoder.penalty(torch.tensor([*row.job.ids, *row.ids], device=scores.device), scores)
            if row.form is not None:
                row.form.forbid(scores)
        tokens: list[int] = logits.argmax(dim=1).tolist()
        for i, row in enumerate(rows):
            if row.generator is not None:
                tokens[i] = pick(logits[i], row.job.temperature, row.generator)
            if row.job.logprobs:
                row.logprob += logprob(logits[i], tokens[i])
        return tokens

    def _extend(self, row: _Row, token: int) -> None:
        """Add a token to a row, and those that must follow it; finish the row if it is complete."""
        row.ids.append(token)
        if row.form is not None:
            row.form.accept(token)
            if not row.form.is_done:
                self._force(row, row.form)
        reason: FinishReason | None = None
        text = None
        if token in self._decoder.prompts.eos_ids:
            reason, text = "stop", self._text(row, row.ids[:-1])
        elif row.form is not None and row.form.is_done:
            reason = "stop"
        elif row.job.stop and (cut := self._cut(row)) is not None:
            reason, text = "stop", cut
        elif len(row.ids) >= self._decoder.limit(row.job):
            reason = "length"
        if reason is not None:
            text = self._text(row, row.ids) if text is None else text
            row.result = Answer(text, tuple(row.ids), reason, row.logprob if row.job.logprobs else None)

    def _force(self, row: _Row, form: Form) -> None:
        """Append the tokens that must come next; the model is not asked for them."""
        forced, completes = form.forced()
        fits = len(row.ids) + len(forced) <= self._decoder.limit(row.job)
        if fits and (completes or self._state.takes_many):
            for token in forced:
                form.accept(token)
            row.ids += forced

    def _cut(self, row: _Row) -> str | None:
        """The text before the first stop string, None without one."""
        text = self._text(row, row.ids)
        found = [at for at in (text.find(stop) for stop in row.job.stop) if at >= 0]
        return text[: min(found)] if found else None

    def _text(self, row: _Row, ids: Sequence[int]) -> str:
        return self._decoder.prompts.decode(ids) if row.form is None else row.form.text(ids)

    def _generator(self, job: Job) -> torch.Generator | None:
        return torch.Generator().manual_seed(job.seed) if job.temperature > 0 else None
