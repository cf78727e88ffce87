"""Opens the base of a training job: a sketch without weights, to plan by, and the model, perhaps in 4 bits."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from backends.errors import InputError, Problem
from backends.local.catalog import Place
from backends.local.convert import converted
from backends.local.loading import eos_ids, load
from backends.local.prompts import Prompts
from backends.local.quiet import quiet
from backends.local.recipe import Recipe

_METHOD = "fine_tune recipe.method"


def sketch(name: str, place: Place) -> Any:
    """The model's modules without their weights."""
    try:
        with quiet(), torch.device("meta"):
            factory: Any = AutoModelForCausalLM
            return factory.from_config(AutoConfig.from_pretrained(_folder(place), local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(Problem(name, f"cannot be opened: {error}", "Check the files of the model.")) from error


def opened(name: str, place: Place, recipe: Recipe, dtype: str, device: str) -> tuple[Any, Prompts]:
    """The model in the precision in which the recipe keeps its weights; `dtype` is that of frozen ones."""
    if recipe.method == "qlora":
        return _in_four_bits(name, place)
    return load(name, place, "float32" if recipe.is_full else dtype, device)


def check_method(recipe: Recipe, device: str) -> None:
    """Raise InputError for QLoRA where it cannot run."""
    if recipe.method != "qlora":
        return
    remedy = "Take method: lora with dtype: bfloat16; layers: upper_third takes less memory still."
    if device != "cuda":
        raise InputError(Problem(_METHOD, "'qlora' needs a CUDA GPU, and this machine has none.", remedy))
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            Problem(_METHOD, "'qlora' needs the package 'bitsandbytes'.", f"pip install bitsandbytes. Or: {remedy}")
        )


def _in_four_bits(name: str, place: Place) -> tuple[Any, Prompts]:
    """NF4 with quantised constants, as in QLoRA (Dettmers et al., arXiv:2305.14314); products in bfloat16."""
    settings: Any = BitsAndBytesConfig
    kind = settings(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    folder = _folder(place)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            quantization_config=kind,
            dtype=torch.bfloat16,
            device_map={"": torch.cuda.current_device()},
            local_files_only=True,
            use_safetensors=True,
        )
    return model.eval(), Prompts(name, tokenizer, eos_ids(model, tokenizer))


def _folder(place: Place) -> Any:
    return converted(place.path) if place.is_gguf else place.path
