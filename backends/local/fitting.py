"""One tuning job from messages to an adapter, or a whole model, on disk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backends import hardware
from backends.errors import InputError, Problem
from backends.local import estimate, frozen
from backends.local.adapters import in_full, layer_list, take_up, with_adapter
from backends.local.catalog import Place
from backends.local.checkpoint import Standing
from backends.local.examples import Example, by_tokens, encode
from backends.local.files import write_text
from backends.local.frozen import Frozen
from backends.local.fused import fuse
from backends.local.group import ALONE, Group
from backends.local.heap import keep_freed_memory
from backends.local.loss import PART_TOKENS
from backends.local.opening import check_method, opened, sketch
from backends.local.prompts import Prompts
from backends.local.quiet import peft_quiet, quiet
from backends.local.recipe import Recipe
from backends.local.short_attention import short_attention
from backends.local.training import Training, precision
from backends.local.tune import Work, portable_base
from backends.types import TuneJob, TuneObserver

_CACHE_SHARE = 4
"""A quarter of the free memory for what enters the first layer that learns; if it is more, it lies in a file."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training gave."""

    standing: Standing
    recipe: Recipe
    """With the automatic choices made."""
    trained_tokens: int


def fit(work: Work, device: str, observe: TuneObserver | None, stop: threading.Event, group: Group = ALONE) -> Fitted:
    """Train, and write the adapter in peft's format, or the whole model in transformers', into the job's folder.

    In a group every process does this; the first alone writes.
    """
    job = work.job
    dtype = work.recipe.dtype or ("bfloat16" if _has_bfloat16(device) else "float32")
    check_method(work.recipe, device)
    plain, free = sketch(job.base, work.place), group.least(estimate.available(device))
    if device == "cpu":
        keep_freed_memory()
    # Twice: before the weights are read and, when the samples are known, before training.
    bare = work.recipe.filled(examples=1, hidden=1, dtype=dtype)
    estimate.check(plain, bare, free, tokens=0, answers=0, device=device)
    place = Place(job.start) if job.start is not None and work.recipe.is_full else work.place
    model, prompts = opened(job.base, place, work.recipe, dtype, device)
    config = model.config.get_text_config()
    examples, dev = _encoded(prompts, job, getattr(config, "max_position_embeddings", None))
    recipe = work.recipe.filled(examples=len(examples), hidden=config.hidden_size, dtype=dtype)
    tokens, answers = _largest_pass(examples, recipe, group)
    estimate.check(plain, recipe, free, tokens=tokens, answers=answers, device=device)
    model.name_or_path = portable_base(job.base, work.place)
    training = Training(model, recipe, examples, dev, job.seed, job.folder, work.key, start=job.start, group=group)
    standing = train(training, observe, stop)
    if group.leads:
        _save(training.model, recipe, prompts, job.folder)
    return Fitted(standing, recipe, sum(len(example.ids) for example in examples) * standing.epoch)


def train(training: Training, observe: TuneObserver | None, stop: threading.Event) -> Standing:
    """Turn the training's model, as it was opened, into what learns under its recipe, and run the training."""
    model, recipe = training.model, training.recipe
    first = recipe.first_layer(len(layer_list(model)))
    training.model = in_full(model, recipe) if recipe.is_full else with_adapter(model, recipe, training.seed)
    if training.start is not None and not recipe.is_full:
        take_up(training.model, training.start)
    fused = not recipe.is_full and fuse(training.model)
    training.mixed = recipe.dtype == "bfloat16" and not fused
    try:
        if first:
            begun = time.perf_counter()
            training.frozen = _lower(training, first)
            training.frozen_seconds = time.perf_counter() - begun
        return training.run(observe, stop)
    finally:
        training.frozen = None
        frozen.forget(training.folder)


def _lower(training: Training, first: int) -> Frozen | None:
    """What enters the first layer that learns, for all examples."""
    model = training.model
    memory = estimate.available("cpu") // _CACHE_SHARE
    examples = (*training.train, *training.dev)
    with precision(model, mixed=training.mixed), short_attention(model):
        return Frozen.of(model, first, examples, folder=training.folder, memory=memory, group=training.group)


def _largest_pass(examples: Sequence[Example], recipe: Recipe, group: Group) -> tuple[int, int]:
    """Padded tokens, and answer tokens, of the largest forward and backward pass of a process."""
    share = -(-(recipe.batch_size or 1) // group.size)
    longest = sorted(examples, key=lambda example: len(example.ids))[-share:]
    parts = by_tokens(longest, PART_TOKENS)
    tokens = max(len(part) * len(part[-1].ids) for part in parts)
    return tokens, max(sum(example.answer for example in part) for part in parts)


def _save(model: Any, recipe: Recipe, prompts: Prompts, folder: Path) -> None:
    if recipe.is_full:
        with quiet():
            model.save_pretrained(str(folder))
            prompts.tokenizer.save_pretrained(str(folder))
        return
    with peft_quiet():
        model.save_pretrained(str(folder), save_embedding_layers=False)
    _put_in_order(folder / "adapter_config.json")


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
