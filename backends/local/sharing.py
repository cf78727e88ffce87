"""Which way of running rows together a model can have: looked up in its cache, then tried on a few tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from backends.local.cascade import Cascade
from backends.local.padded import Padded
from backends.local.prefixes import Prefixes
from backends.local.rows import Rows

_SHARED = 70
"""Enough tokens for a prefix that is computed once; fewer in a window that is too small."""

_ROUNDING = 0.1
"""Share of the logits' spread that half precision may change: the order of a sum alone makes 0.025 over 30 layers."""


def ways(model: PreTrainedModel, prefixes: Prefixes) -> tuple[Callable[[], Rows], bool]:
    """The best way this model's rows can run together, and whether rows of different length can.

    Cascade attention where the model's attention is plain, causal and asked for through transformers' interface, on a
    CPU; else padding and a repeated prefix; else neither.
    """
    # Sliding windows count padding as distance, and recurrent states cannot be cut at a prefix.
    is_plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    asks = getattr(model, "_supports_attention_backend", False)
    if is_plain and asks and model.device.type == "cpu" and is_harmless(model, lambda: Cascade(model, Prefixes())):
        return lambda: Cascade(model, prefixes), True
    shares = is_plain and is_harmless(model, lambda: Padded(model, Prefixes(), shares=True))
    return lambda: Padded(model, prefixes, shares=shares), shares


@torch.inference_mode()
def is_harmless(model: Any, start: Callable[[], Rows]) -> bool:
    """Compare rows of different length that share a prefix, before and after a step, with the same rows alone."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None) or _SHARED * 2
    tokens = ((torch.arange(_SHARED * 2) * 37 + 11) % vocabulary).tolist()
    shared = tokens[: min(_SHARED, window // 2)]
    prompts = [tuple(shared + tokens[-size:]) for size in (9, 5)]
    step = tokens[_SHARED]
    try:
        rows = start()
        together = [*rows.admit(prompts), *rows.extend([[step], [step]])]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RuntimeError, NotImplementedError):
        # Whatever a model that was never tried makes of it: it then runs in the plainer way.
        return False
    alone = [
        model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1].float()
        for ids in (*prompts, *((*prompt, step) for prompt in prompts))
    ]
    tolerance = 1e-3 if model.dtype == torch.float32 else _ROUNDING
    return all(float((one - both).std() / one.std()) <= tolerance for one, both in zip(alone, together, strict=True))
