"""Finds a backend by the first part of a model's name and imports it only then."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from backends.basis import PriceBasis
from backends.batching import Batching
from backends.errors import InputError, Problem
from backends.gauges import Gauge
from backends.types import ChatModel, Embedder, Reranker, TuneJob, Tuner

if TYPE_CHECKING:
    from backends.openai.lifecycle import Lifecycle


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run fixes for every model it opens."""

    usd_per_hour: float | None = None
    """Price of the machine that local models run on; None takes the dated table's."""
    batching: Batching | None = None
    """Have billed requests sent in batches; None sends them one by one."""


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
    start: str | None
    """A function of base, recipe and a finished folder that says what keeps a training from going on from it."""
    basis: str
    """A function of a model's name and the machine's hourly price that says what its dollars rest on."""
    gauge: str
    """Counts and prices of a model without opening it."""
    upload: str | None = None
    """A function of a job that raises InputError for data that must not be sent; None where nothing is."""
    lifecycle: str | None = None
    """A function of a model's name that says when it stops; None where models stay as long as their files do."""
    chat_problem: str | None = None
    """A function of a model's name that says why it cannot answer; None where `problem` says all that is known."""
    has_batches: bool = False
    """Whether its chat models can have their requests sent in batches."""


_BACKENDS = {
    "local": _Backend(
        problem="backends.local.catalog:problem",
        chat="backends.local.chat:LocalChat",
        embedder="backends.local.embed:LocalEmbedder",
        tuner="backends.local.tune:LocalTuner",
        reranker="backends.local.rerank:LocalReranker",
        recipe="backends.local.recipe:check_recipe",
        start="backends.local.start:problem",
        basis="backends.local.device:price_basis",
        gauge="backends.local.gauge:LocalGauge",
        chat_problem="backends.local.catalog:chat_problem",
    ),
    "openai": _Backend(
        problem="backends.openai.endpoints:problem",
        chat="backends.openai.chat:OpenAIChat",
        embedder="backends.openai.embed:OpenAIEmbedder",
        tuner="backends.openai.tune:OpenAITuner",
        reranker=None,
        recipe="backends.openai.training_recipe:check_recipe",
        start="backends.openai.tuned:start_problem",
        upload="backends.openai.job_work:check_upload",
        basis="backends.openai.basis:price_basis",
        gauge="backends.openai.gauge:OpenAIGauge",
        lifecycle="backends.openai.lifecycle:lifecycle_of",
        has_batches=True,
    ),
    "scripted": _Backend(
        problem="backends.scripted:problem",
        chat="backends.scripted:ScriptedChat",
        embedder="backends.scripted:ScriptedEmbedder",
        tuner="backends.scripted:ScriptedTuner",
        reranker="backends.scripted_rerank:ScriptedReranker",
        recipe="backends.scripted:check_recipe",
        start="backends.scripted:start_problem",
        basis="backends.scripted:price_basis",
        gauge="backends.scripted_gauge:ScriptedGauge",
        lifecycle="backends.scripted:lifecycle",
    ),
}
_ENDPOINTS = "backends.openai.endpoints:names"
_DECLARE = "backends.openai.endpoints:declare"


def declare_endpoints(sections: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Make the endpoints that a scenario describes known; `where` is its file. They go before advisor.toml's."""
    _load(_DECLARE)(sections, where)


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


def chat_problem(name: str) -> Problem | None:
    """What keeps this model from answering, or None: as `problem`, and embedders are refused."""
    found = problem(name)
    if found is not None:
        return found
    asked = _backend(name).chat_problem
    return None if asked is None else cast("Problem | None", _load(asked)(name))


def tuning_problem(backend: str, base: str, recipe: Mapping[str, Any]) -> Problem | None:
    """What keeps `base` from being tuned by this backend with this recipe, or None. Answers in milliseconds."""
    known = _BACKENDS.get(backend)
    if known is None or known.recipe is None:
        return Problem(backend, f"there is no tuner {backend!r}.", f"Tuners are {_tuners()}.")
    if owner(base) != backend:
        remedy = f"Set base to a model of {backend}/... or set fine_tune.when to never."
        return Problem(base, f"the backend {backend!r} cannot tune it.", remedy)
    found = problem(base)
    if found is None:
        try:
            _load(known.recipe)(recipe)
        except InputError as error:
            return error.problems[0]
    return found


def owner(name: str) -> str | None:
    """The backend that a model belongs to, None for a name of nobody's; all endpoints are of `openai`."""
    try:
        backend = _backend(name)
    except InputError:
        return None
    return next(known for known, one in _BACKENDS.items() if one is backend)


def upload_problems(backend: str, job: Callable[[], TuneJob]) -> tuple[Problem, ...]:
    """What forbids sending the data of a job to its endpoint; `job` is only made where something would be sent."""
    known = _BACKENDS.get(backend)
    if known is None or known.upload is None:
        return ()
    try:
        _load(known.upload)(job())
    except InputError as error:
        return error.problems
    return ()


def start_problem(backend: str, base: str, recipe: Mapping[str, Any], folder: Path) -> Problem | None:
    """What keeps a training of `base` from going on from the tuned model in `folder`, or None; loads no weights."""
    known = _BACKENDS.get(backend)
    if known is None or known.start is None:
        return Problem(backend, "this backend goes on from no tuned model.", "Start afresh with --from base.")
    return cast("Problem | None", _load(known.start)(base, recipe, folder))


def lifecycle(name: str) -> Lifecycle | None:
    """When a model stops, None where that is up to its user. Answers in milliseconds; raises InputError."""
    path = _backend(name).lifecycle
    return None if path is None else cast("Lifecycle", _load(path)(name))


def price_basis(name: str, settings: Settings) -> PriceBasis:
    """What the dollars of a model rest on. Raises InputError when there is no such backend."""
    return cast(PriceBasis, _load(_backend(name).basis)(name, settings.usd_per_hour))


def open_chat(name: str, settings: Settings, folder: Path | None = None) -> ChatModel:
    """Open a chat model; `folder` is where a tuned model lies. Raises InputError when it cannot be found."""
    backend = _backend(name)
    more = {"batching": settings.batching} if backend.has_batches else {}
    return cast(ChatModel, _load(backend.chat).open(name, usd_per_hour=settings.usd_per_hour, folder=folder, **more))


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


def open_gauge(name: str, settings: Settings, *, embeds: bool = False, batched: bool = False) -> Gauge:
    """Counts and prices of a chat model, or of an embedding model, without its key or weights.

    `batched` has billed requests go in batches. Raises InputError.
    """
    gauge = _load(_backend(name).gauge)
    return cast(Gauge, gauge.open(name, usd_per_hour=settings.usd_per_hour, embeds=embeds, batched=batched))


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
    remedy = f"{hint} Endpoints go into the scenario or advisor.toml."
    raise InputError(Problem(name, f"model {name!r}: there is no backend {prefix!r}.", remedy))


def _tuners() -> str:
    return ", ".join(sorted(name for name, backend in _BACKENDS.items() if backend.tuner is not None))


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
