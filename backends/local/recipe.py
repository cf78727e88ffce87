"""The hyperparameters of local fine-tuning: what the user may set, and what is chosen by the size of the data."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backends.errors import InputError, Problem

_WHERE = "fine_tune recipe"


@dataclass(frozen=True, slots=True)
class Recipe:
    """LoRA on all linear layers, without dropout, loss on the answers only. None means chosen automatically."""

    rank: int = 16
    alpha: int | None = None
    """Weight of the adapter, times 1/rank; twice the rank by default."""
    learning_rate: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; then it falls along a cosine to zero."""
    dtype: str | None = None
    """`bfloat16` or `float32` for the frozen weights; the adapter is always float32."""

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
        if problems:
            raise InputError(problems)
        return cls(**given)

    def filled(self, *, examples: int, hidden: int, dtype: str) -> Recipe:
        """The recipe with every automatic choice made.

        Args:
            examples: Size of the training data.
            hidden: Width of the model.
            dtype: What the hardware does best.
        """
        return dataclasses.replace(
            self,
            alpha=2 * self.rank if self.alpha is None else self.alpha,
            learning_rate=_learning_rate(hidden) if self.learning_rate is None else self.learning_rate,
            batch_size=_batch_size(examples) if self.batch_size is None else min(self.batch_size, examples),
            epochs=_epochs(examples) if self.epochs is None else self.epochs,
            dtype=self.dtype or dtype,
        )


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


_CHECKS = {
    "rank": (_is_whole, "a whole number of at least 1"),
    "alpha": (_is_whole, "a whole number of at least 1"),
    "learning_rate": (lambda value: _is_positive(value) and value < 1, "a number between 0 and 1"),
    "batch_size": (_is_whole, "a whole number of at least 1"),
    "epochs": (_is_whole, "a whole number of at least 1"),
    "warmup": (lambda value: value == 0 or (_is_positive(value) and value < 1), "a share between 0 and 1"),
    "dtype": (lambda value: value in {"bfloat16", "float32"}, "'bfloat16' or 'float32'"),
}
