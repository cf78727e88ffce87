"""When a model stops, by a dated table of what its maker announced. Pure: the caller compares with today."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any

import yaml

from backends.openai.endpoints import OPENAI, Endpoint, find
from backends.openai.tokens import base_model


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How long a model can be used and tuned. A date that is None is not known; the model may well be retired."""

    shutdown: date | None = None
    """Day from which the model answers no more; its fine-tunes go with it."""
    training_ends: date | None = None
    """Last day on which a fine-tuning job may be created by those who still may."""
    replacement: str | None = None
    """The model that its maker names instead."""
    source: str = ""
    """Where the dates come from."""
    read: date | None = None
    """Day on which the source was read."""


def lifecycle(model: str) -> Lifecycle:
    """What is announced for a model or a fine-tune of it, without the backend's prefix: `gpt-4.1-mini`, `ft:...`."""
    base = base_model(model)
    # Azure names a tuned model after its base and `.ft-`; such deployments outlive the base.
    tables = ("azure_fine_tunes", "models") if ".ft-" in model else ("models",)
    for table in tables:
        for row in _rows(table):
            if any(fnmatchcase(base, pattern) for pattern in row["models"]):
                return Lifecycle(row["shutdown"], row["training_ends"], row["replacement"], row["source"], row["read"])
    return Lifecycle()


def lifecycle_of(name: str) -> Lifecycle:
    """The same for `ENDPOINT/MODEL` as a scenario names it. Raises InputError when there is no such endpoint.

    Dates hold where the maker serves the model: at OpenAI, at what is called so, and for fine-tunes on Azure. What
    others serve under the same name lives as long as they please.
    """
    endpoint, model = find(name)
    known = _is_azure(endpoint) if ".ft-" in model else _is_openai(endpoint)
    return lifecycle(model) if known else Lifecycle()


def named_models() -> tuple[str, ...]:
    """What the table names, in its order: models, and the beginnings of names where it says `NAME*`."""
    return tuple(pattern.removesuffix("*") for row in _rows("models") for pattern in row["models"])


def _is_openai(endpoint: Endpoint) -> bool:
    return endpoint.is_openai or OPENAI in (endpoint.name, endpoint.provider)


def _is_azure(endpoint: Endpoint) -> bool:
    return endpoint.provider == "azure" or endpoint.host.endswith((".azure.com", ".azure.us"))


@functools.cache
def _rows(table: str) -> Sequence[Mapping[str, Any]]:
    text = (resources.files("backends.openai") / "lifecycle.yaml").read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)[table])
