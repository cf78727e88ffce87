"""The training loop of local fine-tuning.

Faster than a trainer because it leaves things out: rows of like length padded on the right need no attention mask
under a causal model, logits are computed only where an answer is, the frozen weights may be bfloat16 while what
learns stays float32, and layers below the first that learns are computed once. Reproducible bit for bit on one CPU,
also when it is interrupted and goes on.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch import nn

from backends.errors import InputError, Problem
from backends.local import checkpoint
from backends.local.adapters import trainable
from backends.local.checkpoint import Standing, Tensors
from backends.local.examples import Example, batches, by_tokens
from backends.local.frozen import Frozen
from backends.local.group import ALONE, Group
from backends.local.loss import PART_TOKENS, mean_loss, summed_loss
from backends.local.recipe import Recipe
from backends.local.short_attention import short_attention
from backends.types import TuneObserver, TuneProgress

_CLIP = 1.0
_LOSS_ENTRIES = 50
"""About as many points of the loss curve are kept."""


class Stopped(Exception):
    """The caller asked the loop to stop."""


@dataclass(slots=True)
class Training:
    """One run of the loop over a model of which some parameters learn."""

    model: Any
    recipe: Recipe
    train: Sequence[Example]
    dev: Sequence[Example]
    seed: int
    folder: Path
    key: str
    """Names the job; a checkpoint of another job is not continued."""
    mixed: bool = False
    """Whether float32 weights meet bfloat16 ones, so that autocast must choose the precision of products."""
    start: Path | None = None
    """Folder of a finished tuning whose weights come before the first step."""
    frozen: Frozen | None = None
    """What enters the first layer that learns, when it has been computed beforehand."""
    frozen_seconds: float = 0.0
    """How long that took."""
    group: Group = ALONE
    """The processes that run this training together, each with its share of every batch."""

    def run(self, observe: TuneObserver | None, stop: threading.Event) -> Standing:
        """Train to the end and leave the best epoch's parameters in the model."""
        recipe, parameters = self.recipe, trainable(self.model)
        assert recipe.batch_size is not None
        assert recipe.epochs is not None
        assert recipe.learning_rate is not None
        optimizer = torch.optim.AdamW(parameters.values(), lr=recipe.learning_rate, weight_decay=0.0, fused=True)
        standing, best = self._resume(optimizer, parameters, observe)
        per_epoch = math.ceil(len(self.train) / recipe.batch_size)
        steps = per_epoch * recipe.epochs
        standing.seconds += self.frozen_seconds
        clock = _Clock(standing, steps, observe)
        every = max(1, steps // _LOSS_ENTRIES)
        for epoch in range(standing.epoch, recipe.epochs):
            recent: list[float] = []
            for batch in batches(self.train, recipe.batch_size, self.seed, epoch):
                if stop.is_set():
                    raise Stopped
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * schedule(standing.step, steps, recipe.warmup)
                recent.append(self._step(batch, parameters, optimizer, standing.step))
                standing.step += 1
                if standing.step % every == 0 or standing.step == (epoch + 1) * per_epoch:
                    standing.losses.append((standing.step, sum(recent) / len(recent)))
                    recent = []
                clock.tick(recent[-1] if recent else standing.losses[-1][1])
            standing.epoch = epoch + 1
            best = self._end_epoch(standing, best, parameters)
            standing.seconds = clock.seconds()
            if self.group.leads:
                checkpoint.save(self.folder, self.key, standing, _state(parameters, optimizer) | {"best": best})
        _restore(parameters, best)
        return standing

    def loss(self, examples: Sequence[Example]) -> torch.Tensor:
        """Cross entropy summed over the answer tokens, by the shortest way to it."""
        fed = nullcontext() if self.frozen is None else self.frozen.feed(examples)
        with fed, precision(self.model, mixed=self.mixed), short_attention(self.model):
            return summed_loss(self.model, examples)

    def _step(
        self, batch: Sequence[Example], parameters: Tensors, optimizer: torch.optim.Optimizer, step: int
    ) -> float:
        """One step on the mean loss per answer token of the batch."""
        answers = sum(example.answer for example in batch)
        total = 0.0
        with self._dropping(step):
            for part in by_tokens(self.group.share(batch), PART_TOKENS):
                loss = self.loss(part) / answers
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.item()
        total = self.group.total(total)
        self._check("training loss", total)
        self.group.add_gradients(parameters.values())
        # Before the step: a checkpoint must never hold what comes of such gradients.
        self._check("gradient", float(nn.utils.clip_grad_norm_(parameters.values(), _CLIP)))
        optimizer.step()
        optimizer.zero_grad()
        return total

    def _check(self, what: str, value: float) -> None:
        """Raise InputError for a figure that is none."""
        if not math.isfinite(value):
            raise InputError(
                Problem(
                    "fine_tune recipe.learning_rate",
                    f"the {what} became {value} with {self.recipe.learning_rate}.",
                    "Use a lower one, or dtype: float32.",
                )
            )

    @contextmanager
    def _dropping(self, step: int) -> Iterator[None]:
        """Inside, the adapter drops inputs at random, by numbers of this step alone: a resumed run draws them too."""
        if not self.recipe.dropout:
            yield
            return
        layers = [module for name, module in self.model.named_modules() if ".lora_dropout." in name]
        device = self.model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            own = f"/{self.group.rank}" if self.group.rank else ""
            torch.manual_seed(random.Random(f"{self.seed}/dropout/{step}{own}").getrandbits(63))
            for layer in layers:
                layer.train()
            try:
                yield
            finally:
                for layer in layers:
                    layer.eval()

    def _end_epoch(self, standing: Standing, best: Tensors, parameters: Tensors) -> Tensors:
        """Measure on dev and return the parameters of the best epoch so far (the last one without dev)."""
        if self.dev:
            loss = mean_loss(self.loss, self.dev, self.group)
            self._check("loss on dev", loss)
            better = all(loss < former for _, former in standing.dev_losses)
            standing.dev_losses.append((standing.epoch, loss))
            if not better:
                return best
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def _resume(
        self, optimizer: torch.optim.Optimizer, parameters: Tensors, observe: TuneObserver | None
    ) -> tuple[Standing, Tensors]:
        """From the last checkpoint; without one, or with a damaged one, from the start: the weights end up the same."""
        found = None
        try:
            found = checkpoint.load(self.folder, self.key)
        except checkpoint.Damaged as error:
            if observe is not None:
                told = f"the checkpoint in {self.folder} is damaged ({error}); the training begins again"
                observe(TuneProgress(0, 1, None, None, told))
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


@contextmanager
def precision(model: Any, *, mixed: bool) -> Iterator[None]:
    """With `mixed`, compute products in bfloat16 instead of widening every activation to the float32 weights."""
    if not mixed:
        yield
        return
    with disable_input_dtype_casting(model), torch.autocast(model.device.type, dtype=torch.bfloat16):
        yield


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at a step: up in a line, down along a cosine."""
    rising = max(1, round(warmup * steps)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _state(parameters: Tensors, optimizer: torch.optim.Optimizer) -> dict[str, Tensors]:
    moments: Callable[[str], Tensors] = lambda key: {  # noqa: E731
        name: optimizer.state[parameter][key] for name, parameter in parameters.items()
    }
    return {"now": dict(parameters), "mean": moments("exp_avg"), "square": moments("exp_avg_sq")}


def _restore(parameters: Tensors, values: Tensors) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
