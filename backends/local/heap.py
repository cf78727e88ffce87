"""What the C library does with freed memory: kept for the next tensor while models work, given back when they close."""

from __future__ import annotations

import ctypes
import gc
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Names of settings in glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensor; does nothing where it is not glibc.

    By default every tensor of some megabytes is mapped anew and its pages are cleared on first use, at every layer of
    every pass. One arena, since memory freed in the arena of a thread is given back all the same.
    """
    mallopt = getattr(_glibc(), "mallopt", None)
    if mallopt is None:
        return
    for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 1 << 30)):
        mallopt(option, value)


def give_back() -> None:
    """Collect what nothing uses any more and hand its memory back to the system, once weights are no longer needed.

    What is kept for the next tensor is never given back by itself where something lies above it: each model that was
    opened and closed would leave a gigabyte.
    """
    # A model that is closed while a run goes on would stay until its end; see evals/runner.py.
    gc.unfreeze()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(_glibc(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None
