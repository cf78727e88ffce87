"""Cascade attention: what rows share is one tensor of keys and values that all of them read.

The tokens of all rows are packed into one sequence without padding. For each stretch of rows with common keys and
values (instructions, demonstrations) one call attends from all their queries, folded into one long axis; another
attends from each row to its own tokens. Two partial results o1, o2 with log-sum-exps l1, l2 of their scores make
o2 + (o1 - o2) sigmoid(l1 - l2), which is attention over both parts at once, exactly. Any number of levels adds up so.

Hydragen (arXiv:2402.05099) and FlashInfer's cascade inference. Registered with transformers' attention interface,
so that it serves every decoder whose layers ask that interface and whose own attention is plain and causal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

NAME = "advisor_cascade"

Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, of shape (heads, tokens, size)."""

Partial = tuple[torch.Tensor, torch.Tensor]
"""Attention to a part of the tokens, of shape (tokens, heads, size), and its log-sum-exp (tokens, heads)."""

_OTHER_KINDS = ("sliding_window", "softcap", "s_aux", "position_bias")


class Own(Protocol):
    """How the packed tokens attend to the tokens of their own row."""

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> Partial:
        """Attend in one layer; queries (tokens, heads, size), keys and values of the same tokens."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass over packed tokens."""

    shared: Sequence[tuple[int, int, Layers]]
    """Stretches of tokens, from and to, and what they attend to in common; stretches may overlap."""
    own: Own


_current: ContextVar[Pass | None] = ContextVar("pass", default=None)


@contextmanager
def attending(model: Any, how: Pass) -> Iterator[None]:
    """Make the model attend in this way; outside, it is as transformers made it."""
    token = _current.set(how)
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
        _current.reset(token)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> Partial:
    """Attention of shape (batch, heads, tokens, size) with its log-sum-exp (batch, heads, tokens).

    Queries may have more heads than keys and values: each of these then serves a group of them.
    """
    flash: Callable[..., Partial] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return flash(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)


def merge(first: Partial, second: Partial) -> Partial:
    """Attention to two parts, given attention to each."""
    weight = torch.sigmoid(first[1] - second[1]).unsqueeze(-1).to(first[0].dtype)
    return torch.lerp(second[0], first[0], weight), torch.logaddexp(first[1], second[1])


def cascade(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function; inputs of shape (1, heads, tokens, size). Raises ValueError for other attention."""
    how = _current.get()
    unknown = [name for name in _OTHER_KINDS if options.get(name) is not None]
    if how is None or unknown or attention_mask is not None:
        raise ValueError(f"cascade attention cannot do this: {unknown}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries = query[0].transpose(0, 1)
    result = how.own(module.layer_idx, queries, key[0].transpose(0, 1), value[0].transpose(0, 1), scale)
    for start, stop, layers in how.shared:
        keys, values = layers[module.layer_idx]
        out, weight = attend(query[:, :, start:stop], keys[None], values[None], scale)
        part = (out[0].transpose(0, 1), weight[0].t())
        if stop - start == len(queries):
            result = merge(part, result)
        else:
            merged = merge(part, (result[0][start:stop], result[1][start:stop]))
            result[0][start:stop], result[1][start:stop] = merged
    return result[0][None], None


AttentionInterface.register(NAME, cascade)
