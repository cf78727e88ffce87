"""How much memory a training run takes, before it is begun, and what would fit where it does not.

Weights, gradients and optimizer are counted. Activations are those that the backward pass of a transformer layer
needs, as Korthikanti et al. (Reducing Activation Recomputation in Large Transformer Models, arXiv:2205.05198,
section 4) count them, for a layer with gated feed-forward, norms in float32 and attention that keeps no scores.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from backends import hardware
from backends.errors import InputError, Problem
from backends.local.adapters import layer_list, target_modules
from backends.local.fused import lays_out
from backends.local.recipe import Recipe

_BYTES = {"float32": 4.0, "bfloat16": 2.0, "4 bits": 0.56}
_HIDDEN, _INNER = 16, 4
"""Elements that a layer keeps for each token, in widths of the model and of its feed-forward."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model and a recipe decides on memory."""

    parameters: int
    trainable: int
    layers: int
    """Layers whose activations are kept: from the lowest that learns upwards."""
    hidden: int
    inner: int
    """Width of the feed-forward."""
    vocabulary: int

    @classmethod
    def of(cls, model: Any, recipe: Recipe) -> Self:
        """Measure a model, which may lie on the meta device; raises InputError when the recipe does not suit it."""
        layers = layer_list(model)
        learning = layers[recipe.first_layer(len(layers)) :]
        matrices = [parameter.shape for parameter in layers[0].parameters() if parameter.dim() == 2]
        config = model.config.get_text_config()
        return cls(
            parameters=_count(model),
            trainable=_trained(model, learning, recipe),
            layers=len(learning),
            hidden=config.hidden_size,
            inner=max((max(shape) for shape in matrices), default=config.hidden_size),
            vocabulary=config.vocab_size,
        )


def estimate(shape: Shape, recipe: Recipe, *, tokens: int, answers: int, device: str = "cpu") -> int:
    """Bytes that training takes at its peak.

    Args:
        shape: Of the model under this recipe.
        recipe: With its `dtype`.
        tokens: Padded tokens of the largest forward and backward pass.
        answers: Answer tokens in it: only these have logits.
        device: Float32 weights are laid out once more for each direction on a CPU.
    """
    dtype = recipe.dtype or "float32"
    held = "float32" if recipe.is_full else "4 bits" if recipe.method == "qlora" else dtype
    copies = 3 if not recipe.is_full and lays_out(device, held) else 1
    weights = shape.parameters * _BYTES[held] * copies
    # Gradient, two moments and the best epoch, all float32; an adapter's own weights come on top.
    learning = shape.trainable * 4 * (4 if recipe.is_full else 5)
    kept = tokens * shape.layers * (_HIDDEN * shape.hidden + _INNER * shape.inner) * _BYTES[dtype]
    # Logits, the same in float32, their logarithm and its gradient.
    logits = answers * shape.vocabulary * (_BYTES[dtype] + 3 * 4)
    return int(weights + learning + kept + logits)


def available(device: str) -> int:
    """Bytes that are free on the device now, container limits respected."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    total = int((hardware.detect().memory_gb or 4.0) * 1e9)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return min(total, next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration):
        return total


def check(model: Any, recipe: Recipe, free: int, *, tokens: int, answers: int, device: str) -> None:
    """Raise InputError when training would not fit into so many free bytes, saying what would.

    Args:
        model: May lie on the meta device.
        recipe: Its processes have a GPU each, or share the memory of the machine.
        free: Bytes, on a GPU of the one that has least.
        tokens: Padded tokens of the largest forward and backward pass of one process.
        answers: Answer tokens in it.
        device: `cpu` or `cuda`.
    """

    def needed(recipe: Recipe) -> int:
        one = estimate(Shape.of(model, recipe), recipe, tokens=tokens, answers=answers, device=device)
        return one * (recipe.processes or 1) if device == "cpu" else one

    size = needed(recipe)
    if size <= free:
        return
    what = f"training would take about {_gb(size)} GB of memory{_where(recipe, device)}; {_gb(free)} GB are free."
    changed: dict[str, Any] = {}
    for change in _savings(recipe, device):
        changed |= change
        smaller = needed(_changed(recipe, changed))
        if smaller <= free:
            how = ", ".join(f"{key}: {value}" for key, value in changed.items())
            raise InputError(Problem("fine_tune recipe", what, f"This would fit: {how} ({_gb(smaller)} GB)."))
    raise InputError(Problem("fine_tune recipe", what, "Shorten the samples, take a smaller model or free memory."))


def _where(recipe: Recipe, device: str) -> str:
    """The part of the sentence that a training in several processes needs."""
    if (recipe.processes or 1) == 1:
        return ""
    return " on each GPU" if device == "cuda" else f" in {recipe.processes} processes"


def _savings(recipe: Recipe, device: str) -> list[dict[str, Any]]:
    """Changes of a recipe, one after another, that take less memory, the least harmful first."""
    steps: list[dict[str, Any]] = []
    if device == "cpu" and (recipe.processes or 1) > 1:
        steps.append({"processes": 1})
    if recipe.is_full:
        steps.append({"method": "lora"})
    if recipe.dtype == "float32":
        steps.append({"dtype": "bfloat16"})
    if recipe.layers == "all":
        steps.append({"layers": "upper_third"})
    if device == "cuda" and recipe.method != "qlora":
        steps.append({"method": "qlora"})
    return steps


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    return dataclasses.replace(recipe, **changes)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _trained(model: Any, learning: nn.ModuleList, recipe: Recipe) -> int:
    if recipe.is_full:
        return _count(model if len(learning) == len(layer_list(model)) else learning)
    weights = [[name, "weight"] for name in target_modules(model, recipe)]
    shapes = [parameter.shape for name, parameter in learning.named_parameters() if name.split(".")[-2:] in weights]
    return sum(recipe.rank * sum(shape) + (max(shape) if recipe.dora else 0) for shape in shapes)
