"""Causal attention for training on short samples in bfloat16 on a CPU.

Torch's flash attention for the CPU has a backward pass that is several times slower in bfloat16 than plain products
as long as samples are short (measured with torch 2.13 on two Zen 4 cores, forward and backward of 8 samples of 82
tokens: 19.8 against 4.3 ms; one of 1,024 tokens: 72 against 48 ms). Everything else is left to transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "advisor_short"
_LONGEST = 512
"""Tokens of a sample; the probabilities that are kept for the backward pass grow with their square."""

_OTHER_KINDS = ("softcap", "s_aux", "position_bias", "cache")


@contextmanager
def short_attention(model: Any) -> Iterator[None]:
    """Let a model that uses torch's attention use this one where it is faster; outside, it is as before."""
    before = model.config._attn_implementation
    if before == "sdpa":
        model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of inputs (batch, heads, tokens, size); the result has shape (batch, tokens, heads, size)."""
    if not _suits(module, query, attention_mask, options):
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return result
    return _causal(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling).transpose(1, 2), None


def _suits(module: Any, query: torch.Tensor, mask: torch.Tensor | None, options: dict[str, Any]) -> bool:
    causal = options.get("is_causal")
    return (
        mask is None
        and query.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and query.shape[2] <= _LONGEST
        and not options.get("dropout")
        and bool(getattr(module, "is_causal", True) if causal is None else causal)
        and all(options.get(name) is None for name in _OTHER_KINDS)
    )


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The heads of a group share keys and values: their queries stand one after another."""
    rows, heads, tokens, size = query.shape
    groups = key.shape[1]
    queries = (query * scale).reshape(rows, groups, heads // groups * tokens, size)
    scores = (queries @ key.transpose(-1, -2)).view(rows, heads, tokens, tokens)
    later = torch.full((tokens, tokens), -torch.inf, dtype=scores.dtype).triu_(1)
    shares = (scores + later).softmax(-1).view(rows, groups, -1, tokens)
    return (shares @ value).view(rows, heads, tokens, size)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
