"""Batched generation with plain transformers, for any decoder model it loads.

A batch's common prefix is computed once and its keys and values are repeated over the rows; what is left of each
prompt is padded on the left. In float32 the answers are those of one-by-one `generate`, token for token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from backends.errors import RequestError
from backends.local.batches import Limits, plan, shared_prefix
from backends.local.batches import Prompt as Planned
from backends.local.constrain import Constraint, Grammars
from backends.local.prefixes import MIN_TOKENS, Prefixes, layers_of, repeated
from backends.local.prompts import Prompts
from backends.local.sampling import pick, repetition_penalty
from backends.local.sharing import can_share, forward
from backends.types import FinishReason


@dataclass(slots=True)
class Job:
    """One prompt to answer."""

    ids: tuple[int, ...]
    limit: int
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    grammar: str | None = None
    is_abandoned: Callable[[], bool] = lambda: False
    """Asked between steps: True when nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said."""

    text: str
    ids: tuple[int, ...]
    """Generated tokens, the one that ends the turn included if the model was asked for it."""
    finish_reason: FinishReason
    seconds: float
    """From the start of the batch to the end of this answer."""


@dataclass(slots=True)
class _Row:
    job: Job
    generator: torch.Generator | None
    constraint: Constraint | None
    ids: list[int] = field(default_factory=list)
    result: Answer | RequestError | None = None


class Decoder:
    """Answers batches of prompts with one model. Not for use by two threads at once."""

    def __init__(self, model: PreTrainedModel, prompts: Prompts) -> None:
        self.model: Any = model
        self.prompts = prompts
        self.device = model.device
        self.window: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._penalty = repetition_penalty(model)
        self._prefixes = Prefixes()
        self._grammars: Grammars | None = None
        self.shares = can_share(model)

    def plan(self, jobs: Sequence[Job], limits: Limits) -> list[list[int]]:
        """Cut the jobs into batches for `answer`; returns indices."""
        return plan([Planned(job.ids, job.limit) for job in jobs], limits, padded=self.shares)

    def check(self, job: Job) -> None:
        """Raise RequestError when the job can never be answered."""
        if self.window is not None and len(job.ids) >= self.window:
            raise RequestError(f"the prompt has {len(job.ids)} tokens; the model's context window holds {self.window}.")
        if job.grammar is not None:
            self._constraint(job)

    @torch.inference_mode()
    def answer(self, jobs: Sequence[Job]) -> list[Answer | RequestError]:
        """Answer the jobs in one batch, in order. Lets errors about memory pass."""
        begun = time.perf_counter()
        rows = [_Row(job, self._generator(job), self._constraint(job)) for job in jobs]
        live = rows
        logits, cache, mask = self._prefill(rows)
        while True:
            tokens = self._next_tokens(live, logits)
            for row, token in zip(live, tokens, strict=True):
                try:
                    self._extend(row, token, begun)
                except RequestError as error:
                    row.result = error
            keep = [i for i, row in enumerate(live) if row.result is None and not row.job.is_abandoned()]
            if not keep:
                return [row.result or RequestError("nobody waits for the answer any more") for row in rows]
            if len(keep) < len(live):
                chosen = torch.tensor(keep, device=self.device)
                cache.reorder_cache(chosen)
                mask = mask[chosen]
            live = [live[i] for i in keep]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
            ids = torch.tensor([row.ids[-1:] for row in live], device=self.device)
            logits = forward(self.model, ids, mask, mask.sum(dim=1, keepdim=True) - 1, cache)

    def forget(self) -> None:
        """Free what is kept for speed."""
        self._prefixes.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _prefill(self, rows: Sequence[_Row]) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Compute the prompts; logits after the last token of each, the cache, and the mask over it."""
        prompts = [row.job.ids for row in rows]
        prefix, cache = (0, DynamicCache(config=self.model.config)) if not self.shares else self._shared(prompts)
        longest = max(map(len, prompts)) - prefix
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.ones(len(rows), prefix + longest, dtype=torch.long)
        for i, prompt in enumerate(prompts):
            own = len(prompt) - prefix
            ids[i, longest - own :] = torch.tensor(prompt[prefix:])
            mask[i, prefix : prefix + longest - own] = 0
        ids, mask = ids.to(self.device), mask.to(self.device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, prefix:]
        logits = forward(self.model, ids, mask, positions, cache)
        if self.shares and len(rows) == 1:
            self._prefixes.remember(prompts[0], cache)
        return logits, cache, mask

    def _shared(self, prompts: Sequence[tuple[int, ...]]) -> tuple[int, Any]:
        """A cache that holds what all prompts begin with, for each of them."""
        wanted = prompts[0][: shared_prefix(prompts)]
        known, layers = self._prefixes.longest(wanted)
        if len(prompts) > 1 and len(wanted) >= MIN_TOKENS and known < len(wanted):
            cache = repeated(layers, 1) if layers else DynamicCache(config=self.model.config)
            rest = torch.tensor([wanted[known:]], device=self.device)
            positions = torch.arange(known, len(wanted), device=self.device)[None]
            forward(self.model, rest, torch.ones(1, len(wanted), device=self.device), positions, cache)
            self._prefixes.remember(wanted, cache)
            known, layers = len(wanted), layers_of(cache)
        if not layers:
            return 0, DynamicCache(config=self.model.config)
        return known, repeated(layers, len(prompts))

    def _next_tokens(self, rows: Sequence[_Row], logits: torch.Tensor) -> list[int]:
        """The next token of each row, by its own constraint, temperature and generator."""
        if self._penalty is not None:
            for row, scores in zip(rows, logits, strict=True):
                self._penalty(torch.tensor([*row.job.ids, *row.ids], device=self.device), scores)
        for row, scores in zip(rows, logits, strict=True):
            if row.constraint is not None:
                row.constraint.forbid(scores)
        tokens: list[int] = logits.argmax(dim=1).tolist()
        for i, row in enumerate(rows):
            if row.generator is not None:
                tokens[i] = pick(logits[i], row.job.temperature, row.generator)
        return tokens

    def _extend(self, row: _Row, token: int, begun: float) -> None:
        """Add a token to a row and finish it if that was its last."""
        row.ids.append(token)
        reason: FinishReason | None = None
        text = None
        if token in self.prompts.eos_ids:
            reason, text = "stop", self._text(row, row.ids[:-1])
        elif row.constraint is not None and self._completes(row, token):
            reason = "stop"
        elif row.job.stop and (cut := self._cut(row)) is not None:
            reason, text = "stop", cut
        elif len(row.ids) >= self._limit(row.job):
            reason = "length"
        if reason is not None:
            text = self._text(row, row.ids) if text is None else text
            row.result = Answer(text, tuple(row.ids), reason, time.perf_counter() - begun)

    def _completes(self, row: _Row, token: int) -> bool:
        """Go on in the row's grammar; True when the answer is complete, forced tokens appended."""
        assert row.constraint is not None
        row.constraint.accept(token)
        if row.constraint.is_done:
            return True
        forced = row.constraint.forced_end()
        if forced is None or len(row.ids) + len(forced) > self._limit(row.job):
            return False
        row.ids.extend(forced)
        return True

    def _cut(self, row: _Row) -> str | None:
        """The text before the first stop string, None without one."""
        text = self._text(row, row.ids)
        found = [at for at in (text.find(stop) for stop in row.job.stop) if at >= 0]
        return text[: min(found)] if found else None

    def _text(self, row: _Row, ids: Sequence[int]) -> str:
        return self.prompts.decode(ids) if row.constraint is None else row.constraint.text(ids)

    def _limit(self, job: Job) -> int:
        return job.limit if self.window is None else min(job.limit, self.window - len(job.ids))

    def _generator(self, job: Job) -> torch.Generator | None:
        return torch.Generator().manual_seed(job.seed) if job.temperature > 0 else None

    def _constraint(self, job: Job) -> Constraint | None:
        if job.grammar is None:
            return None
        if self._grammars is None:
            logits = self.model.get_output_embeddings().weight.shape[0]
            self._grammars = Grammars(self.prompts.tokenizer, self.prompts.eos_ids, logits)
        return self._grammars.start(job.grammar)
