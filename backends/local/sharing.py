"""Which way of running rows together a model can have: looked up in its cache, then tried on a few tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from backends.local.cascade import Cascade
from backends.local.padded import Padded
from backends.local.prefixes import Prefixes
from backends.local.rows import Rows

_SHARED = 20
"""Tokens of the prefix that the trial shares; fewer in a window that is too small."""

_ROUNDING = 0.1
"""Share of the logits' spread that half precision may change: the order of a sum alone makes 0.025 over 30 layers."""


def ways(model: PreTrainedModel, prefixes: Prefixes) -> tuple[Callable[[], Rows], bool]:
    """The best way this model's rows can run together, and whether rows of different length can.

    Cascade attention on a CPU where the model's attention is plain, causal and asked for through transformers'
    interface; else padding and a repeated prefix; else neither.
    """
    # Sliding windows count padding as distance, and recurrent states cannot be cut at a prefix.
    is_plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    asks = getattr(model, "_supports_attention_backend", False)
    if is_plain and asks and model.device.type == "cpu" and is_harmless(model, functools.partial(Cascade, model)):
        return lambda: Cascade(model, prefixes), True
    shares = is_plain and is_harmless(model, functools.partial(Padded, model, shares=True))
    return lambda: Padded(model, prefixes, shares=shares), shares


@torch.inference_mode()
def is_harmless(model: Any, start: Callable[[Prefixes], Rows]) -> bool:
    """Compare rows of different length over a prefix that is kept, before and after a step, with the same rows alone.

    Some dozens of tokens in all, so that large models load no slower.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2 * _SHARED
    *tokens, step = ((torch.arange(2 * _SHARED) * 37 + 11) % vocabulary).tolist()
    shared = tokens[: min(_SHARED, window // 2)]
    prompts = [tuple(shared + tokens[-size:]) for size in (9, 5)]
    try:
        prefixes = Prefixes()
        start(prefixes).admit([tuple(shared)])
        rows = start(prefixes)
        together = torch.stack([rows.admit(prompts), rows.extend([[step], [step]])], dim=1)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RuntimeError, AssertionError):
        # Whatever a model that was never tried makes of it: it then runs in the plainer way.
        return False
    alone = [
        model(input_ids=torch.tensor([[*ids, step]], device=model.device)).logits[0, -2:].float() for ids in prompts
    ]
    tolerance = 1e-3 if model.dtype == torch.float32 else _ROUNDING
    return all(float((one - both).std() / one.std()) <= tolerance for one, both in zip(alone, together, strict=True))
