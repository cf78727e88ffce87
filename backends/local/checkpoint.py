"""Where a training run stands after an epoch: one safetensors file that appears whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

FILE = "checkpoint.safetensors"

Tensors = dict[str, torch.Tensor]


@dataclass(slots=True)
class Standing:
    """What a run has reached, but for its tensors."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    dev_losses: list[tuple[int, float]] = field(default_factory=list)


def save(folder: Path, key: str, standing: Standing, parts: dict[str, Tensors]) -> None:
    """Write the checkpoint of the run named by `key`; an error leaves the former one as it was."""
    tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    temporary = folder / f".{FILE}"
    try:
        save_file(tensors, temporary, metadata={"key": key, "standing": json.dumps(asdict(standing))})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / FILE)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def load(folder: Path, key: str) -> tuple[Standing, dict[str, Tensors]] | None:
    """The last checkpoint of this run; None without one, with one of another run or with a broken one."""
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            known = json.loads(metadata["standing"])
            parts: dict[str, Tensors] = {}
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part, _, tensor = name.partition("/")
                parts.setdefault(part, {})[tensor] = file.get_tensor(name)
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    pairs = {name: [(step, loss) for step, loss in known[name]] for name in ("losses", "dev_losses")}
    return Standing(**known | pairs), parts
