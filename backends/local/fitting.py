"""One tuning job from messages to an adapter on disk."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backends import hardware
from backends.errors import InputError, Problem
from backends.local.checkpoint import Standing
from backends.local.examples import Example, encode
from backends.local.files import write_text
from backends.local.loading import load
from backends.local.prompts import Prompts
from backends.local.quiet import peft_quiet
from backends.local.recipe import Recipe
from backends.local.training import Training, with_adapter
from backends.local.tune import Work, portable_base
from backends.types import TuneJob, TuneObserver


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training gave."""

    standing: Standing
    recipe: Recipe
    """With the automatic choices made."""
    trained_tokens: int


def fit(work: Work, device: str, observe: TuneObserver | None, stop: threading.Event) -> Fitted:
    """Train the adapter and write it into the job's folder in peft's own format."""
    job = work.job
    dtype = work.recipe.dtype or ("bfloat16" if _has_bfloat16(device) else "float32")
    loaded, prompts = load(job.base, work.place, dtype, device)
    model: Any = loaded
    config = model.config.get_text_config()
    window = getattr(config, "max_position_embeddings", None)
    train, dev = _encoded(prompts, job, window)
    recipe = work.recipe.filled(examples=len(train), hidden=config.hidden_size, dtype=dtype)
    model.name_or_path = portable_base(job.base, work.place)
    tuned = with_adapter(model, recipe, job.seed)
    standing = Training(tuned, recipe, train, dev, job.seed, job.folder, work.key).run(observe, stop)
    with peft_quiet():
        tuned.save_pretrained(str(job.folder), save_embedding_layers=False)
    _put_in_order(job.folder / "adapter_config.json")
    tokens = sum(len(example.ids) for example in train) * standing.epoch
    return Fitted(standing, recipe, tokens)


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
