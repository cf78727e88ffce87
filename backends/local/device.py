"""Where a local model runs, in which precision, and what an hour of that costs."""

from __future__ import annotations

from backends import hardware
from backends.basis import PriceBasis


def device() -> str:
    """`cuda` when torch can use the GPU of this machine, otherwise `cpu`; torch is imported only if there is one."""
    if hardware.detect().gpu is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def chat_dtype(device: str) -> str:
    """Float32 on a CPU, where greedy answers must not depend on batch mates; on a GPU what models are served in."""
    return "float32" if device == "cpu" else "bfloat16"


def hourly_price(device: str, usd_per_hour: float | None, *, gpus: int = 1) -> float | None:
    """The user's figure, else the default for this machine with so many GPUs at work, None when there is none."""
    if usd_per_hour is not None:
        return usd_per_hour
    one = hardware.default_price(hardware.detect(), on_gpu=device == "cuda").usd
    return one if one is None or device == "cpu" else one * gpus


def price_basis(name: str, usd_per_hour: float | None = None) -> PriceBasis:
    """What an hour of the machine under a local model costs, and who says so."""
    if usd_per_hour is not None:
        return PriceBasis(f"${usd_per_hour:g} an hour: the scenario", given=True)
    found = hardware.default_price(hardware.detect(), on_gpu=device() == "cuda")
    if found.usd is None:
        return PriceBasis(found.basis, given=False, known=False)
    return PriceBasis(f"${found.usd:g} an hour: {found.basis}", given=False, date=found.read)
