"""What a user may set about a fine-tuning job at an endpoint. Imports nothing heavy."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backends.errors import InputError, Problem
from backends.openai.endpoints import Endpoint

_WHERE = "fine_tune recipe"
_MOST_EPOCHS, _MOST_BATCH, _LONGEST_SUFFIX = 50, 256, 64
"""Limits of OpenAI's API description."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """None leaves the choice to the endpoint, but for the epochs: what a job costs at most must be known before."""

    method: str = "supervised"
    """`supervised`, or `dpo`, which learns to prefer the target to each train sample's `rejected` answer."""
    epochs: int | None = None
    """Passes over the train samples, 1 to 50; None takes 3, more for fewer than 34 samples, fewer for very many."""
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    """Of dpo: how closely the model stays to what it was; 0 to 2."""
    suffix: str | None = None
    """Goes into the tuned model's name; at most 64 characters."""
    max_hours: float = 24.0
    """How long one sitting waits for the job; the job goes on, and so can the run."""
    cancel_on_interrupt: bool = False
    """Whether Ctrl-C ends the job too."""
    allow_secrets: bool = False
    """Upload although the samples hold what looks like a key or a password."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that only some endpoints know, by their names there."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the job that only some endpoints know, such as Azure's `trainingType`."""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Recipe:
        """Check the user's keys and values; raises InputError with all that is wrong."""
        problems = [
            _unknown(key)
            if key not in _CHECKS
            else Problem(f"{_WHERE}.{key}", f"{value!r} is not {_CHECKS[key][1]}.", "Correct it.")
            for key, value in given.items()
            if key not in _CHECKS or not _CHECKS[key][0](value)
        ]
        if "beta" in given and given.get("method") != "dpo":
            problems.append(Problem(f"{_WHERE}.beta", "means nothing without method: dpo.", "Drop it."))
        if problems:
            raise InputError(problems)
        own = {key: value for key, value in given.items() if key not in EXTRA}
        return cls(**own, extra={key: value for key, value in given.items() if key in EXTRA})

    def epochs_for(self, examples: int) -> int:
        """Passes over the data. The default is OpenAI's own rule: "Data preparation and analysis for chat models"."""
        if self.epochs is not None:
            return self.epochs
        if examples * 3 < 100:
            return min(25, 100 // max(1, examples))
        return max(1, 25_000 // examples) if examples * 3 > 25_000 else 3

    def hyperparameters(self, examples: int) -> dict[str, Any]:
        """As the wire writes them; what is left out the endpoint chooses."""
        known = {
            "n_epochs": self.epochs_for(examples),
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
            "beta": self.beta,
            **self.extra,
        }
        return {name: value for name, value in known.items() if value is not None}


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise InputError for what `Recipe.parse` refuses."""
    Recipe.parse(recipe)


def check_endpoint(recipe: Recipe, endpoint: Endpoint) -> None:
    """Raise InputError for what OpenAI itself does not know: it would refuse the job after the upload."""
    if endpoint.is_openai and (recipe.extra or recipe.extra_body):
        names = ", ".join([*recipe.extra, *recipe.extra_body])
        raise InputError(Problem(_WHERE, f"OpenAI does not know {names}.", f"Drop it, or name another of {_KNOWN}."))


def _unknown(key: str) -> Problem:
    near = difflib.get_close_matches(key, _CHECKS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return Problem(f"{_WHERE}.{key}", "is not known to tuners of endpoints.", f"{hint}Known are {_KNOWN}.")


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_whole(most: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_suffix(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= _LONGEST_SUFFIX and value.isascii() and value.isprintable()


def _is_object(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


_WHOLE = "a whole number of at least 1"
EXTRA: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "learning_rate": (_is_positive, "a positive number"),
    "lora": (_is_flag, "true or false"),
    "lora_r": (_is_whole(), _WHOLE),
    "lora_alpha": (_is_positive, "a positive number"),
    "lora_dropout": (_is_share, "a share between 0 and 1"),
    "packing": (_is_flag, "true or false"),
    "context_length": (_is_whole(), _WHOLE),
    "warmup_ratio": (_is_share, "a share between 0 and 1"),
    "weight_decay": (_is_share, "a share between 0 and 1"),
    "max_grad_norm": (_is_positive, "a positive number"),
}
"""Hyperparameters of Nebius Token Factory; other endpoints may share the names."""

_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "method": (lambda value: value in {"supervised", "dpo"}, "'supervised' or 'dpo'"),
    "epochs": (_is_whole(_MOST_EPOCHS), f"a whole number from 1 to {_MOST_EPOCHS}"),
    "batch_size": (_is_whole(_MOST_BATCH), f"a whole number from 1 to {_MOST_BATCH}"),
    "learning_rate_multiplier": (_is_positive, "a positive number"),
    "beta": (lambda value: _is_positive(value) and value <= 2, "a number above 0, at most 2"),
    "suffix": (_is_suffix, f"a name of at most {_LONGEST_SUFFIX} plain characters"),
    "max_hours": (_is_positive, "a positive number of hours"),
    "cancel_on_interrupt": (_is_flag, "true or false"),
    "allow_secrets": (_is_flag, "true or false"),
    "extra_body": (_is_object, "a mapping of fields for the job"),
    **EXTRA,
}
_KNOWN = ", ".join(sorted(_CHECKS))
