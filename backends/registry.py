"""Finds a backend by the first part of a model's name and imports it only then."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backends.errors import InputError, Problem
from backends.types import ChatModel, Embedder, Reranker, Tuner


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
    tuner: str | None
    """None where the backend tunes nothing."""
    reranker: str | None
    """None where the backend has no cross-encoders."""
    recipe: str | None
    """A function of a recipe that raises InputError for what the tuner would refuse."""


_BACKENDS = {
    "local": _Backend(
        problem="backends.local.catalog:problem",
        chat="backends.local.chat:LocalChat",
        embedder="backends.local.embed:LocalEmbedder",
        tuner="backends.local.tune:LocalTuner",
        reranker="backends.local.rerank:LocalReranker",
        recipe="backends.local.recipe:check_recipe",
    ),
    "openai": _Backend(
        problem="backends.openai.endpoints:problem",
        chat="backends.openai.chat:OpenAIChat",
        embedder="backends.openai.embed:OpenAIEmbedder",
        tuner=None,
        reranker=None,
        recipe=None,
    ),
    "scripted": _Backend(
        problem="backends.scripted:problem",
        chat="backends.scripted:ScriptedChat",
        embedder="backends.scripted:ScriptedEmbedder",
        tuner="backends.scripted:ScriptedTuner",
        reranker="backends.scripted_rerank:ScriptedReranker",
        recipe="backends.scripted:check_recipe",
    ),
}
_ENDPOINTS = "backends.openai.endpoints:names"


def problem(name: str) -> Problem | None:
    """What keeps this model from being used, or None. Answers in milliseconds, without loading it."""
    if not name.partition("/")[2]:
        return Problem(
            name, f"model {name!r} names no backend.", f"Write backend/model, for instance local/{name or 'NAME'}."
        )
    try:
        backend = _backend(name)
    except InputError as error:
        return error.problems[0]
    return cast("Problem | None", _load(backend.problem)(name))


def tuning_problem(backend: str, base: str, recipe: Mapping[str, Any]) -> Problem | None:
    """What keeps `base` from being tuned by this backend with this recipe, or None. Answers in milliseconds."""
    known = _BACKENDS.get(backend)
    if known is None or known.recipe is None:
        return Problem(backend, f"there is no tuner {backend!r}.", f"Tuners are {_tuners()}.")
    if base.partition("/")[0] != backend:
        return Problem(base, f"the backend {backend!r} cannot tune it.", f"Set base to a model of {backend}/...")
    found = problem(base)
    if found is None:
        try:
            _load(known.recipe)(recipe)
        except InputError as error:
            return error.problems[0]
    return found


def open_chat(name: str, settings: Settings, folder: Path | None = None) -> ChatModel:
    """Open a chat model; `folder` is where a tuned model lies. Raises InputError when it cannot be found."""
    return cast(ChatModel, _load(_backend(name).chat).open(name, usd_per_hour=settings.usd_per_hour, folder=folder))


def open_embedder(name: str, settings: Settings) -> Embedder:
    """Open an embedding model. Raises InputError when it cannot be found."""
    return cast(Embedder, _load(_backend(name).embedder).open(name, usd_per_hour=settings.usd_per_hour))


def open_reranker(name: str, settings: Settings) -> Reranker:
    """Open a cross-encoder. Raises InputError when it cannot be found or its backend has none."""
    path = _backend(name).reranker
    if path is None:
        raise InputError(
            Problem(name, "this backend has no cross-encoders.", "Name a local one: local/FOLDER or local/HUB-ID.")
        )
    return cast(Reranker, _load(path).open(name, usd_per_hour=settings.usd_per_hour))


def open_tuner(backend: str, settings: Settings) -> Tuner:
    """Open the tuner of a backend (`local`). Raises InputError when there is none of that name."""
    known = _BACKENDS.get(backend)
    if known is None or known.tuner is None:
        raise InputError(Problem(backend, f"there is no tuner {backend!r}.", f"Tuners are {_tuners()}."))
    return cast(Tuner, _load(known.tuner)(usd_per_hour=settings.usd_per_hour))


def _backend(name: str) -> _Backend:
    """The backend of a model; all endpoints of advisor.toml are of one. Raises InputError."""
    prefix, _, rest = name.partition("/")
    if prefix in _BACKENDS:
        return _BACKENDS[prefix]
    named = _load(_ENDPOINTS)()
    if prefix in named:
        return _BACKENDS["openai"]
    known = sorted({*_BACKENDS, *named})
    near = difflib.get_close_matches(prefix, known, n=1)
    hint = f"Did you mean {near[0]}/{rest}?" if near else f"Backends are {', '.join(known)}."
    raise InputError(
        Problem(name, f"model {name!r}: there is no backend {prefix!r}.", f"{hint} Endpoints go into advisor.toml.")
    )


def _tuners() -> str:
    return ", ".join(sorted(name for name, backend in _BACKENDS.items() if backend.tuner is not None))


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
