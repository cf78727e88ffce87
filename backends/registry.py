"""Finds a backend by the first part of a model's name and imports it only then."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backends.errors import InputError, Problem
from backends.types import ChatModel, Embedder, Tuner


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run fixes for every model it opens."""

    usd_per_hour: float | None = None
    """Price of the machine that local models run on; None takes the dated table's."""


@dataclass(frozen=True, slots=True)
class _Backend:
    """Dotted `module:name` of each part a backend has; the modules are imported at the last moment."""

    problem: str
    chat: str
    embedder: str
    tuner: str


_BACKENDS = {
    "local": _Backend(
        problem="backends.local.catalog:problem",
        chat="backends.local.chat:LocalChat",
        embedder="backends.local.embed:LocalEmbedder",
        tuner="backends.local.tune:LocalTuner",
    ),
    "scripted": _Backend(
        problem="backends.scripted:problem",
        chat="backends.scripted:ScriptedChat",
        embedder="backends.scripted:ScriptedEmbedder",
        tuner="backends.scripted:ScriptedTuner",
    ),
}


def problem(name: str) -> Problem | None:
    """What keeps this model from being used, or None. Answers in milliseconds, without loading it."""
    prefix, _, rest = name.partition("/")
    if not rest:
        return Problem(
            name, f"model {name!r} names no backend.", f"Write backend/model, for instance local/{name or 'NAME'}."
        )
    if prefix not in _BACKENDS:
        near = difflib.get_close_matches(prefix, _BACKENDS, n=1)
        hint = f"Did you mean {near[0]}/{rest}?" if near else f"Backends are {', '.join(sorted(_BACKENDS))}."
        return Problem(name, f"model {name!r}: there is no backend {prefix!r}.", hint)
    found = _load(_BACKENDS[prefix].problem)(name)
    return cast("Problem | None", found)


def open_chat(name: str, settings: Settings, folder: Path | None = None) -> ChatModel:
    """Open a chat model; `folder` is where a tuned model lies. Raises InputError when it cannot be found."""
    return cast(ChatModel, _load(_backend(name).chat).open(name, usd_per_hour=settings.usd_per_hour, folder=folder))


def open_embedder(name: str, settings: Settings) -> Embedder:
    """Open an embedding model. Raises InputError when it cannot be found."""
    return cast(Embedder, _load(_backend(name).embedder).open(name, usd_per_hour=settings.usd_per_hour))


def open_tuner(backend: str, settings: Settings) -> Tuner:
    """Open the tuner of a backend (`local`). Raises InputError when there is none of that name."""
    return cast(Tuner, _load(_backend(f"{backend}/any").tuner)(usd_per_hour=settings.usd_per_hour))


def _backend(name: str) -> _Backend:
    prefix = name.partition("/")[0]
    if prefix not in _BACKENDS:
        raise InputError(
            Problem(name, f"there is no backend {prefix!r}.", f"Backends are {', '.join(sorted(_BACKENDS))}.")
        )
    return _BACKENDS[prefix]


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
