"""How much memory a batch may take, and how running out of it looks."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from backends import hardware
from backends.local.batches import Limits

_CPU_SHARE = 16
"""A sixteenth of the machine's memory for keys and values: on a CPU the system kills a process that takes too much, so
there is no error to recover from."""


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Names of settings in glibc's malloc.h."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for torch's errors about memory, on any device."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensor; does nothing where it is not glibc.

    By default every tensor of some megabytes is mapped anew and its pages are cleared on first use, at every layer of
    every pass. One arena, since memory freed in the arena of a thread is given back all the same.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 1 << 30)):
        mallopt(option, value)


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
