"""Opens a decoder model with its tokenizer: weights from safetensors only, adapter merged, nothing downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from backends.errors import BackendUnavailable, InputError, Problem
from backends.local.catalog import Place
from backends.local.convert import converted
from backends.local.identity import content_hash
from backends.local.memory import is_out_of_memory
from backends.local.prompts import Prompts
from backends.local.quiet import peft_quiet, quiet
from backends.local.tuned import read_tuned


def load(name: str, place: Place, dtype: str, device: str) -> tuple[PreTrainedModel, Prompts]:
    """Open the model at `place`, ready to answer, in this precision on this device."""
    folder = converted(place.path) if place.is_gguf else place.path
    if place.adapter is not None:
        _check_base(name, place)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
            )
        if place.adapter is not None:
            model = _merged(model, place.adapter)
        model.to(device).eval()
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise InputError(Problem(name, f"cannot be opened: {error}", "Check the files of the model.")) from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise BackendUnavailable(f"{name} does not fit into the memory of {device}: {error}") from error
        raise InputError(Problem(name, f"cannot be opened: {error}", "Adapter and base may not fit.")) from error
    return model, Prompts(name, tokenizer, eos_ids(model, tokenizer))


def _merged(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    from peft import PeftModel

    with peft_quiet():
        merged: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return merged


def _check_base(name: str, place: Place) -> None:
    """Refuse an adapter of ours whose base has changed since."""
    assert place.adapter is not None
    tuned = read_tuned(place.adapter)
    if tuned is not None and tuned.get("base_content") not in {None, content_hash(Place(place.path))}:
        raise InputError(
            Problem(
                name,
                f"{str(place.adapter)!r} was trained on {tuned.get('base')!r}, which has other weights now.",
                "Tune again, or bring the former base model back.",
            )
        )


def eos_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end an answer: a model may have several."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = tokenizer.eos_token_id if configured is None else configured
    return tuple(ids) if isinstance(ids, list | tuple) else () if ids is None else (int(ids),)
