"""Where a training run stands after an epoch: one safetensors file that appears whole or not at all."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

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

    @classmethod
    def of(cls, known: dict[str, Any]) -> Self:
        """Read it from JSON, which has no tuples."""
        pairs = {name: [(step, loss) for step, loss in known[name]] for name in ("losses", "dev_losses")}
        return cls(**known | pairs)


def save(folder: Path, key: str, standing: Standing, parts: dict[str, Tensors]) -> None:
    """Write the checkpoint of the run named by `key`; an error leaves the former one as it was."""
    tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    temporary = folder / f".{FILE}"
    try:
        metadata = {"key": key, "standing": json.dumps(asdict(standing)), "checksum": _checksum(tensors)}
        save_file(tensors, temporary, metadata=metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / FILE)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


class Damaged(Exception):
    """A checkpoint that cannot be read, or that is not what was written."""


def load(folder: Path, key: str) -> tuple[Standing, dict[str, Tensors]] | None:
    """The last checkpoint of this run; None without one or with one of another run. Raises Damaged."""
    if not (folder / FILE).exists():
        return None
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            standing = Standing.of(json.loads(metadata["standing"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damaged(str(error)) from error
    # Checkpoints of before had no checksum.
    if metadata.get("checksum") not in {None, _checksum(tensors)}:
        raise Damaged("its content is not what was written")
    parts: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        part, _, own = name.partition("/")
        parts.setdefault(part, {})[own] = tensor
    return standing, parts


def _checksum(tensors: Tensors) -> str:
    """Of all bytes, in the order of names: a flipped bit would train on unseen."""
    found = 0
    for _, tensor in sorted(tensors.items()):
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found = zlib.crc32(content.numpy().data, found)
    return f"{found:08x}"
