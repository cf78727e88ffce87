"""One tuning job from messages to an adapter, or a whole model, on disk."""

from __future__ import annotations

import importlib.util
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from backends import hardware
from backends.errors import InputError, Problem
from backends.local import estimate, frozen
from backends.local.adapters import in_full, layer_list, with_adapter
from backends.local.checkpoint import Standing
from backends.local.convert import converted
from backends.local.examples import Example, by_tokens, encode
from backends.local.files import write_text
from backends.local.frozen import Frozen
from backends.local.fused import fuse
from backends.local.loading import load
from backends.local.loss import PART_TOKENS
from backends.local.memory import keep_freed_memory
from backends.local.prompts import Prompts
from backends.local.quiet import peft_quiet, quiet
from backends.local.recipe import Recipe
from backends.local.training import Training, precision
from backends.local.tune import Work, portable_base
from backends.types import TuneJob, TuneObserver

_CACHE_SHARE = 4
"""A quarter of the free memory for hidden states; more of them lie in a file."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training gave."""

    standing: Standing
    recipe: Recipe
    """With the automatic choices made."""
    trained_tokens: int


def fit(work: Work, device: str, observe: TuneObserver | None, stop: threading.Event) -> Fitted:
    """Train, and write the adapter in peft's own format or the model in transformers' into the job's folder."""
    job, recipe = work.job, work.recipe
    dtype = recipe.dtype or ("bfloat16" if _has_bfloat16(device) else "float32")
    if recipe.method == "qlora":
        _check_qlora(device)
    sketch = _sketch(work)
    first = recipe.first_layer(len(layer_list(sketch)))
    _check_memory(sketch, recipe.filled(examples=1, hidden=1, dtype=dtype), (), device)
    model, prompts = _opened(work, dtype, device)
    config = model.config.get_text_config()
    train, dev = _encoded(prompts, job, getattr(config, "max_position_embeddings", None))
    recipe = recipe.filled(examples=len(train), hidden=config.hidden_size, dtype=dtype)
    _check_memory(sketch, recipe, (*train, *dev), device)
    if device == "cpu":
        keep_freed_memory()
    model.name_or_path = portable_base(job.base, work.place)
    training = _prepared(model, recipe, work, train, dev)
    try:
        if first:
            training.frozen = _lower(training, first, device)
        standing = training.run(observe, stop)
    finally:
        training.frozen = None
        frozen.forget(job.folder)
    _save(training.model, recipe, prompts, job.folder)
    tokens = sum(len(example.ids) for example in train) * standing.epoch
    return Fitted(standing, recipe, tokens)


def _sketch(work: Work) -> Any:
    """The base model's modules without their weights."""
    folder = converted(work.place.path) if work.place.is_gguf else work.place.path
    try:
        with quiet(), torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(Problem(work.job.base, f"cannot be opened: {error}", "Check the files of the model.")) from error


def _check_memory(sketch: Any, recipe: Recipe, examples: tuple[Example, ...], device: str) -> None:
    """Refuse what cannot fit: without examples the weights and what learns, with them everything."""
    parts = by_tokens(examples, PART_TOKENS)
    tokens = max((len(part) * len(part[-1].ids) for part in parts), default=0)
    answers = max((sum(example.answer for example in part) for part in parts), default=0)
    if examples:
        # The weights are there already.
        recipe_free = estimate.available(device)
        del recipe_free
    estimate.check(sketch, recipe, tokens=tokens, answers=answers, device=device)


def _encoded(prompts: Prompts, job: TuneJob, window: int | None) -> tuple[list[Example], list[Example]]:
    """Both splits as examples; raises InputError with the problems of both."""
    splits: list[list[Example]] = []
    problems: list[Problem] = []
    for where, conversations in (("train", job.train), ("dev", job.dev)):
        try:
            splits.append(encode(prompts, conversations, where, window))
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return splits[0], splits[1]


def _put_in_order(config: Path) -> None:
    """The same bytes for the same adapter: peft writes its set of modules in the order of the process's hash seed."""
    content = json.loads(config.read_text(encoding="utf-8"))
    content["target_modules"] = sorted(content["target_modules"])
    write_text(config, json.dumps(content, indent=2, sort_keys=True))


def _has_bfloat16(device: str) -> bool:
    return torch.cuda.is_bf16_supported() if device == "cuda" else hardware.has_bfloat16()
