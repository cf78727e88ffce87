"""How much memory a batch may take, and how running out of it looks."""

from __future__ import annotations

from typing import Any

import torch

from backends import hardware
from backends.local.batches import Limits

_CPU_SHARE = 16
"""A sixteenth of the machine's memory for keys and values: on a CPU the system kills a process that takes too much, so
there is no error to recover from."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for torch's errors about memory, on any device."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def batch_limits(model: Any, *, joining: bool = False) -> Limits:
    """What a batch of this model may hold on its device.

    Args:
        model: A decoder.
        joining: Whether rows join those that run and share their prefix: then a step costs little more for many.
    """
    rows = 256 if joining else 32
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    if heads is None or not hasattr(config, "num_hidden_layers"):
        return Limits(rows=rows)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0]
        return Limits(rows=128, held_tokens=max(1, free // 2 // per_token), computed_tokens=65_536)
    memory = (hardware.detect().memory_gb or 4.0) * 1e9
    return Limits(rows=rows, held_tokens=max(1, int(memory / _CPU_SHARE / per_token)))
