"""The hyperparameters of local fine-tuning: what the user may set, and what is chosen by the size of the data."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backends.errors import InputError, Problem

_WHERE = "fine_tune recipe"


METHODS = ("lora", "qlora", "full")
_RSLORA_ALPHA = 8
"""Over the root of the rank this is 2 at rank 16, as twice the rank over the rank is."""

_FULL_RATE = 0.1
"""LoRA bears about ten times the learning rate of full fine-tuning, whatever the model (Schulman, LoRA Without Regret,
2025)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Loss on the answers only. None means chosen automatically."""

    method: str = "lora"
    """`lora`; `qlora`, over weights in 4 bits, on a CUDA GPU; or `full`, which trains the weights themselves."""
    layers: str = "all"
    """Which of the model's layers learn: `all`, `upper_third`, or `last_8` for the last eight (or any number)."""
    targets: str | tuple[str, ...] = "all"
    """Which linear modules of a layer get an adapter: `all`, `attention`, or names such as [q_proj, v_proj]."""
    rank: int = 16
    alpha: int | None = None
    """Weight of the adapter, times 1/rank (1/sqrt(rank) with `rslora`); twice the rank by default (8 with `rslora`)."""
    rslora: bool = False
    """Scale by the root of the rank, so that high ranks learn as fast (Kalajdzievski, arXiv:2312.03732)."""
    dora: bool = False
    """Learn the length of each weight apart from its direction (Liu et al., arXiv:2402.09353); slower."""
    dropout: float = 0.0
    """Share of the adapter's inputs that are left out at random in each training step."""
    learning_rate: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; then it falls along a cosine to zero."""
    dtype: str | None = None
    """`bfloat16` or `float32` for the frozen weights (for the products under `full`); what learns is float32."""
    processes: int | None = None
    """How many processes share every batch, each with the whole model: one for each GPU, by default all; on a CPU one
    by default."""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Recipe:
        """Check the user's keys and values; raises InputError with all that is wrong."""
        problems = [
            _unknown(key)
            if key not in _CHECKS
            else Problem(f"{_WHERE}.{key}", f"{value!r} is not {_CHECKS[key][1]}.", "")
            for key, value in given.items()
            if key not in _CHECKS or not _CHECKS[key][0](value)
        ]
        problems += _without_meaning(given)
        if problems:
            raise InputError(problems)
        names = given.get("targets", "all")
        return cls(**{**given, "targets": names if isinstance(names, str) else tuple(names)})

    @property
    def is_full(self) -> bool:
        """Whether the weights themselves are trained, without an adapter."""
        return self.method == "full"

    @property
    def shape(self) -> dict[str, Any]:
        """What decides which numbers are learnt and how they count: trainings of one shape can go on from each other.

        A whole model can be trained on whatever its layers.
        """
        if self.is_full:
            return {"method": "full"}
        kind = {"method": "lora", "layers": self.layers, "targets": self.targets, "rank": self.rank}
        return kind | {"alpha": self.alpha or self._alpha(), "rslora": self.rslora, "dora": self.dora}

    def first_layer(self, layers: int) -> int:
        """Index of the lowest layer that learns, in a model of so many; raises InputError when it has too few."""
        if self.layers == "all":
            return 0
        count = math.ceil(layers / 3) if self.layers == "upper_third" else int(self.layers.removeprefix("last_"))
        if count > layers:
            raise InputError(
                Problem(f"{_WHERE}.layers", f"{self.layers!r}: the model has {layers} layers.", "Take fewer, or all.")
            )
        return layers - count

    def filled(self, *, examples: int, hidden: int, dtype: str) -> Recipe:
        """The recipe with every automatic choice made.

        Args:
            examples: Size of the training data.
            hidden: Width of the model.
            dtype: What the hardware does best.
        """
        return dataclasses.replace(
            self,
            alpha=self._alpha() if self.alpha is None else self.alpha,
            learning_rate=self._rate(hidden) if self.learning_rate is None else self.learning_rate,
            batch_size=_batch_size(examples) if self.batch_size is None else min(self.batch_size, examples),
            epochs=_epochs(examples) if self.epochs is None else self.epochs,
            dtype=self.dtype or dtype,
        )

    def _alpha(self) -> int:
        return _RSLORA_ALPHA if self.rslora else 2 * self.rank

    def _rate(self, hidden: int) -> float:
        return _learning_rate(hidden) * (_FULL_RATE if self.is_full else 1)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise InputError for what `Recipe.parse` refuses."""
    Recipe.parse(recipe)


def _learning_rate(hidden: int) -> float:
    """2e-4 at the width of a 1B model; narrower models bear more, wider ones less."""
    return round(min(5e-4, max(1e-4, 2e-4 * math.sqrt(2048 / hidden))), 6)


def _batch_size(examples: int) -> int:
    """Small data needs many steps more than smooth ones."""
    return min(examples, 4 if examples < 64 else 8 if examples < 4000 else 16)


def _epochs(examples: int) -> int:
    """Passes over the data; the dev split picks the best of them."""
    table = ((100, 8), (300, 5), (1000, 3), (5000, 2))
    return next((epochs for size, epochs in table if examples <= size), 1)


def _unknown(key: str) -> Problem:
    near = difflib.get_close_matches(key, _CHECKS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return Problem(f"{_WHERE}.{key}", "is not known.", f"{hint}Known are {', '.join(sorted(_CHECKS))}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _without_meaning(given: Mapping[str, Any]) -> list[Problem]:
    """Keys of an adapter when none is trained."""
    if given.get("method") != "full":
        return []
    adapter = ("rank", "alpha", "rslora", "dora", "dropout", "targets")
    return [
        Problem(f"{_WHERE}.{key}", "means nothing when all weights are trained.", "Drop it, or take method: lora.")
        for key in adapter
        if key in given
    ]


def _is_choice_of_layers(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"all|upper_third|last_[1-9]\d*", value) is not None


def _are_targets(value: Any) -> bool:
    if isinstance(value, str):
        return value in {"all", "attention"}
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(name, str) and name for name in value)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "method": (lambda value: value in METHODS, "'lora', 'qlora' or 'full'"),
    "layers": (_is_choice_of_layers, "'all', 'upper_third' or 'last_N', such as 'last_8'"),
    "targets": (_are_targets, "'all', 'attention' or a list of module names, such as [q_proj, v_proj]"),
    "rslora": (lambda value: isinstance(value, bool), "true or false"),
    "dora": (lambda value: isinstance(value, bool), "true or false"),
    "dropout": (lambda value: value == 0 or (_is_positive(value) and value < 1), "a share between 0 and 1"),
    "rank": (_is_whole, "a whole number of at least 1"),
    "alpha": (_is_whole, "a whole number of at least 1"),
    "learning_rate": (lambda value: _is_positive(value) and value < 1, "a number between 0 and 1"),
    "batch_size": (_is_whole, "a whole number of at least 1"),
    "epochs": (_is_whole, "a whole number of at least 1"),
    "warmup": (lambda value: value == 0 or (_is_positive(value) and value < 1), "a share between 0 and 1"),
    "dtype": (lambda value: value in ("bfloat16", "float32"), "'bfloat16' or 'float32'"),
    "processes": (_is_whole, "a whole number of at least 1"),
}
