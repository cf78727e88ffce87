"""Where a local model runs, in which precision, and what an hour of that costs."""

from __future__ import annotations

from backends import hardware


def device() -> str:
    """`cuda` when torch can use the GPU of this machine, otherwise `cpu`; torch is imported only if there is one."""
    if hardware.detect().gpu is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def chat_dtype(device: str) -> str:
    """Float32 on a CPU, where greedy answers must not depend on batch mates; on a GPU what models are served in."""
    return "float32" if device == "cpu" else "bfloat16"


def hourly_price(device: str, usd_per_hour: float | None) -> float | None:
    """The user's figure, else the default for this machine, None when there is none."""
    if usd_per_hour is not None:
        return usd_per_hour
    return hardware.default_price(hardware.detect(), on_gpu=device == "cuda").usd
