"""The training loop of local fine-tuning.

Faster than a trainer because it leaves things out: rows of like length padded on the right need no attention mask
under a causal model, logits are computed only where an answer is, the frozen weights may be bfloat16 while the
adapter stays float32. Reproducible bit for bit on one CPU, also when it is interrupted and goes on.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import disable_input_dtype_casting
from torch.nn import functional

from backends.errors import InputError, Problem
from backends.local import checkpoint
from backends.local.checkpoint import Standing, Tensors
from backends.local.examples import Example, batches, by_tokens
from backends.local.quiet import peft_quiet
from backends.local.recipe import Recipe
from backends.types import TuneObserver, TuneProgress

_PART_TOKENS = 2048
"""Padded tokens of one forward and backward pass; a larger batch is summed over several, which bounds the memory."""

_CLIP = 1.0
_LOSS_ENTRIES = 50
"""About as many points of the loss curve are kept."""


class Stopped(Exception):
    """The caller asked the loop to stop."""


@dataclass(slots=True)
class Training:
    """One run of the loop over a model whose adapter it trains."""

    model: Any
    recipe: Recipe
    train: Sequence[Example]
    dev: Sequence[Example]
    seed: int
    folder: Path
    key: str
    """Names the job; a checkpoint of another job is not continued."""

    def run(self, observe: TuneObserver | None, stop: threading.Event) -> Standing:
        """Train to the end and leave the best epoch's adapter in the model."""
        recipe, parameters = self.recipe, _trainable(self.model)
        assert recipe.batch_size is not None
        assert recipe.epochs is not None
        assert recipe.learning_rate is not None
        optimizer = torch.optim.AdamW(parameters.values(), lr=recipe.learning_rate, weight_decay=0.0, fused=True)
        standing, best = self._resume(optimizer, parameters)
        per_epoch = math.ceil(len(self.train) / recipe.batch_size)
        steps = per_epoch * recipe.epochs
        clock = _Clock(standing, steps, observe)
        every = max(1, steps // _LOSS_ENTRIES)
        for epoch in range(standing.epoch, recipe.epochs):
            recent: list[float] = []
            for batch in batches(self.train, recipe.batch_size, self.seed, epoch):
                if stop.is_set():
                    raise Stopped
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * schedule(standing.step, steps, recipe.warmup)
                recent.append(self._step(batch, parameters, optimizer))
                standing.step += 1
                if standing.step % every == 0 or standing.step == (epoch + 1) * per_epoch:
                    standing.losses.append((standing.step, sum(recent) / len(recent)))
                    recent = []
                clock.tick(recent[-1] if recent else standing.losses[-1][1])
            standing.epoch = epoch + 1
            best = self._end_epoch(standing, best, parameters)
            standing.seconds = clock.seconds()
            checkpoint.save(self.folder, self.key, standing, _state(parameters, optimizer) | {"best": best})
        _restore(parameters, best)
        return standing

    def _step(self, batch: Sequence[Example], parameters: Tensors, optimizer: torch.optim.Optimizer) -> float:
        """One step on the mean loss per answer token of the batch."""
        answers = sum(example.answer for example in batch)
        total = 0.0
        for part in by_tokens(batch, _PART_TOKENS):
            loss = summed_loss(self.model, part) / answers
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise InputError(
                Problem(
                    "fine_tune recipe.learning_rate",
                    f"the training loss became {total} with {self.recipe.learning_rate}.",
                    "Use a lower one, or dtype: float32.",
                )
            )
        torch.nn.utils.clip_grad_norm_(parameters.values(), _CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return total

    def _end_epoch(self, standing: Standing, best: Tensors, parameters: Tensors) -> Tensors:
        """Measure on dev and return the adapter of the best epoch so far (the last one without dev)."""
        if self.dev:
            loss = dev_loss(self.model, self.dev)
            better = all(loss < former for _, former in standing.dev_losses)
            standing.dev_losses.append((standing.epoch, loss))
            if not better:
                return best
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def _resume(self, optimizer: torch.optim.Optimizer, parameters: Tensors) -> tuple[Standing, Tensors]:
        found = checkpoint.load(self.folder, self.key)
        if found is None or set(found[1].get("now", ())) != set(parameters):
            return Standing(), {}
        standing, parts = found
        _restore(parameters, parts["now"])
        for name, parameter in parameters.items():
            optimizer.state[parameter] = {
                "step": torch.tensor(float(standing.step), device=parameter.device),
                "exp_avg": parts["mean"][name].to(parameter.device),
                "exp_avg_sq": parts["square"][name].to(parameter.device),
            }
        return standing, {name: tensor.to(parameters[name].device) for name, tensor in parts["best"].items()}


class _Clock:
    """Counts seconds over interruptions and tells the observer what is left."""

    def __init__(self, standing: Standing, steps: int, observe: TuneObserver | None) -> None:
        self._before = standing.seconds
        self._first = standing.step
        self._standing = standing
        self._steps = steps
        self._observe = observe
        self._begun = time.perf_counter()

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._begun

    def tick(self, loss: float) -> None:
        if self._observe is None:
            return
        step = self._standing.step
        each = (time.perf_counter() - self._begun) / (step - self._first)
        self._observe(TuneProgress(step, self._steps, loss, each * (self._steps - step)))


def with_adapter(model: Any, recipe: Recipe, seed: int) -> Any:
    """The model with a fresh adapter on all linear layers, by its own random numbers; the weights are frozen."""
    assert recipe.alpha is not None
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    # peft draws from torch's global generator; what it draws is replaced below.
    with peft_quiet(), torch.random.fork_rng(devices=[]):
        tuned = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in _trainable(tuned).items():
        if "lora_A" in name:
            start = torch.empty(parameter.shape)
            torch.nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
            parameter.data.copy_(start)
    return tuned.eval()


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at a step: up in a line, down along a cosine."""
    rising = max(1, round(warmup * steps)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def summed_loss(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """Cross entropy summed over the answer tokens of some examples."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    asked = torch.zeros(len(examples), longest, dtype=torch.bool)
    for row, example in enumerate(examples):
        size = len(example.ids)
        ids[row, :size] = torch.tensor(example.ids)
        # The logits at one position predict the token at the next.
        asked[row, size - example.answer - 1 : size - 1] = True
    answers = ids[asked.roll(1, dims=1)].to(model.device)
    with _fast_adapter(model):
        logits = model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=asked.to(model.device)).logits
    return functional.cross_entropy(logits.float(), answers, reduction="sum")


@torch.inference_mode()
def dev_loss(model: Any, examples: Sequence[Example]) -> float:
    """Loss per answer token."""
    total = sum(float(summed_loss(model, part)) for part in by_tokens(examples, _PART_TOKENS))
    return total / sum(example.answer for example in examples)


def _fast_adapter(model: Any) -> AbstractContextManager[Any]:
    """Over bfloat16 weights, compute the float32 adapter in bfloat16 instead of widening every activation."""
    stack = ExitStack()
    if model.base_model.model.dtype == torch.bfloat16:
        stack.enter_context(disable_input_dtype_casting(model))
        stack.enter_context(torch.autocast(model.device.type, dtype=torch.bfloat16))
    return stack


def _trainable(model: Any) -> Tensors:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _state(parameters: Tensors, optimizer: torch.optim.Optimizer) -> dict[str, Tensors]:
    moments: Callable[[str], Tensors] = lambda key: {  # noqa: E731
        name: optimizer.state[parameter][key] for name, parameter in parameters.items()
    }
    return {"now": dict(parameters), "mean": moments("exp_avg"), "square": moments("exp_avg_sq")}


def _restore(parameters: Tensors, values: Tensors) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
