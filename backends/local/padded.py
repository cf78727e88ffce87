"""Rows of a batch by plain transformers, for models whose attention cannot cascade.

A common prefix is computed once and its keys and values are repeated over the rows; what is left of each prompt is
padded on the left. Models that cannot have even that get rows of one length and no prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from backends.local.batches import shared_prefix
from backends.local.prefixes import MIN_TOKENS, Prefixes, repeated, segment_of


class Padded:
    """The rows of one batch, which all start together. Implements Rows."""

    can_join = False
    takes_many = False

    def __init__(self, model: Any, prefixes: Prefixes, *, shares: bool) -> None:
        self._model = model
        self._prefixes = prefixes
        self._shares = shares
        self._device = model.device
        self._cache: Any = None
        self._mask = torch.ones(0, 0)

    def admit(self, prompts: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Compute prompts; logits of shape (prompts, vocabulary) after the last token of each."""
        prefix, self._cache = self._shared(prompts) if self._shares else (0, DynamicCache(config=self._model.config))
        longest = max(map(len, prompts)) - prefix
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.ones(len(prompts), prefix + longest, dtype=torch.long)
        for i, prompt in enumerate(prompts):
            own = len(prompt) - prefix
            ids[i, longest - own :] = torch.tensor(prompt[prefix:])
            mask[i, prefix : prefix + longest - own] = 0
        self._mask = mask.to(self._device)
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, prefix:]
        logits = forward(self._model, ids.to(self._device), self._mask, positions, self._cache)
        if self._shares and len(prompts) == 1:
            self._prefixes.remember(prompts[0], (segment_of(self._cache),))
        return logits

    def extend(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Add one token to every row; logits after it."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        ids = torch.tensor(tokens, device=self._device)
        return forward(self._model, ids, self._mask, self._mask.sum(dim=1, keepdim=True) - 1, self._cache)

    def keep(self, rows: Sequence[int]) -> None:
        """Let go of all rows but these."""
        if rows:
            chosen = torch.tensor(rows, device=self._device)
            self._cache.reorder_cache(chosen)
            self._mask = self._mask[chosen]
        else:
            self._cache = None

    def _shared(self, prompts: Sequence[tuple[int, ...]]) -> tuple[int, Any]:
        """A cache that holds what all prompts begin with, for each of them."""
        wanted = prompts[0][: shared_prefix(prompts)]
        known, chain = self._prefixes.longest(wanted)
        if len(prompts) > 1 and len(wanted) >= MIN_TOKENS and known < len(wanted):
            cache = repeated(chain, 1) if chain else DynamicCache(config=self._model.config)
            rest = torch.tensor([wanted[known:]], device=self._device)
            positions = torch.arange(known, len(wanted), device=self._device)[None]
            forward(self._model, rest, torch.ones(1, len(wanted), device=self._device), positions, cache)
            known, chain = len(wanted), self._prefixes.remember(wanted, (segment_of(cache),))
        return (known, repeated(chain, len(prompts))) if chain else (0, DynamicCache(config=self._model.config))


def forward(model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
    """Logits in float32 after the last token of each row; the cache grows by `ids`."""
    # A mask rather than `logits_to_keep=1`: rows sliced out of a longer tensor would be multiplied one by one.
    last = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    last[:, -1] = True
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last,
    )
    logits: torch.Tensor = output.logits.float()
    return logits
