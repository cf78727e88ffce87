"""What of a model learns: an adapter over its frozen weights, or the weights themselves; all layers or the upper ones.

The layers are those of transformers' decoders: one list of modules of which each takes and gives hidden states.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from backends.errors import InputError, Problem
from backends.local.quiet import peft_quiet
from backends.local.recipe import Recipe

_TARGETS = "fine_tune recipe.targets"


def with_adapter(model: Any, recipe: Recipe, seed: int) -> Any:
    """The model with a fresh adapter by its own random numbers; all other weights are frozen.

    Raises InputError when the recipe names layers or modules that the model does not have.
    """
    assert recipe.alpha is not None
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        use_rslora=recipe.rslora,
        use_dora=recipe.dora,
        task_type="CAUSAL_LM",
        **_where(model, recipe),
    )
    # peft draws from torch's global generator; what it draws is replaced below.
    with peft_quiet(), torch.random.fork_rng(devices=[]):
        tuned = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in trainable(tuned).items():
        if "lora_A" in name:
            start = torch.empty(parameter.shape)
            nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
            parameter.data.copy_(start)
    return tuned.eval()


def take_up(model: Any, folder: Path) -> None:
    """Give the model's adapter the weights of a finished one; raises InputError where these are damaged or unfit."""
    remedy = "Tune it again, or start afresh with --from base."
    try:
        found = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(Problem(str(folder), f"its adapter cannot be read: {error}.", remedy)) from error
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in found.items()}:
        raise InputError(Problem(str(folder), "its adapter does not fit this base and recipe.", remedy))
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(found[name])


def in_full(model: Any, recipe: Recipe) -> Any:
    """The model with its own weights to be trained; without embeddings and head when only upper layers learn."""
    layers = layer_list(model)
    first = recipe.first_layer(len(layers))
    model.requires_grad_(first == 0)
    for layer in layers[first:]:
        layer.requires_grad_(True)
    return model.eval()


def trainable(model: Any) -> dict[str, torch.Tensor]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def layer_list(model: Any) -> nn.ModuleList:
    """The list of the decoder's layers."""
    return named_layers(model)[1]


def named_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """The list of the decoder's layers, with its name in the decoder."""
    decoder = model.get_decoder()
    size = model.config.get_text_config().num_hidden_layers
    for name, module in decoder.named_children():
        if isinstance(module, nn.ModuleList) and len(module) == size:
            return name, module
    raise InputError(
        Problem("fine_tune.base", f"{type(model).__name__} has no list of {size} layers.", "Tune another model.")
    )


def _where(model: Any, recipe: Recipe) -> dict[str, Any]:
    """Modules and layers that get an adapter, in peft's words."""
    name, layers = named_layers(model)
    first = recipe.first_layer(len(layers))
    where: dict[str, Any] = {"target_modules": target_modules(model, recipe)}
    if first:
        where |= {"layers_to_transform": list(range(first, len(layers))), "layers_pattern": name}
    return where


def target_modules(model: Any, recipe: Recipe) -> list[str]:
    """Last names of the linear modules that get an adapter; raises InputError for names that the model has not."""
    layers = layer_list(model)
    paths = {
        path.partition(".")[2] for path, module in layers.named_modules() if isinstance(module, nn.Linear | Conv1D)
    }
    known = sorted({path.rpartition(".")[2] for path in paths})
    if recipe.targets == "all":
        return known
    if recipe.targets == "attention":
        return sorted({path.rpartition(".")[2] for path in paths if "attn" in path or "attention" in path})
    missing = sorted(set(recipe.targets) - set(known))
    if missing:
        what = f"{', '.join(missing)}: the model has no such linear modules."
        raise InputError(Problem(_TARGETS, what, f"It has {', '.join(known)}."))
    return sorted(recipe.targets)
