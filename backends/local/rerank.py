"""A cross-encoder on this machine, by sentence-transformers."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from backends.errors import BackendUnavailable, InputError, Problem
from backends.local.catalog import Place, locate, require
from backends.local.device import device, hourly_price
from backends.local.files import read_json
from backends.local.heap import give_back
from backends.local.identity import fingerprint
from backends.local.rates import Rates, rates_key, remember, remembered
from backends.types import Reranking, Usage

_DTYPE = "float32"
_BATCH = 32


class LocalReranker:
    """Implements Reranker in float32. Weights are loaded when they are first needed.

    The model must give one score a pair. Pairs beyond its window are cut off, as sentence-transformers does, and what
    is cut is not counted.
    """

    def __init__(self, name: str, place: Place, *, usd_per_hour: float | None) -> None:
        self._name = name
        self._place = place
        self._device = device()
        self._usd_per_hour = hourly_price(self._device, usd_per_hour)
        self._loaded: Any = None
        self._loading = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="advisor-rerank")
        self._closed = False

    @classmethod
    def open(cls, name: str, *, usd_per_hour: float | None = None, folder: Path | None = None) -> LocalReranker:
        """Open `local/...`. Raises InputError, or answers in milliseconds."""
        place = locate(name, folder)
        require(name, place, embedder=True)
        _check_kind(name, place)
        return cls(name, place, usd_per_hour=usd_per_hour)

    @property
    def name(self) -> str:
        """The model's name as the user wrote it."""
        return self._name

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, precision and library versions."""
        return fingerprint(self._place, f"rerank {_DTYPE}", "sentence-transformers")

    @functools.cached_property
    def rates(self) -> Rates:
        """Tokens a second on this machine; the first time on a machine this loads the model and measures."""
        key = rates_key(self._place, f"rerank {_DTYPE}", self._device)
        return remembered(key) or remember(key, self._name, self._measure())

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage: tokens at this machine's rate and hourly price."""
        return None if self._usd_per_hour is None else self.rates.cost(usage, self._usd_per_hour)

    async def rerank(self, query: str, texts: Sequence[str]) -> Reranking:
        """Score the texts, in order, in the model's own thread."""
        if self._closed:
            raise BackendUnavailable("the model has been closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._rerank, query, list(texts))

    async def aclose(self) -> None:
        """Wait for the pairs at hand, then free the weights."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)
        self._loaded = None
        give_back()

    def _rerank(self, query: str, texts: list[str]) -> Reranking:
        model = self._model()
        scores = self._scores(model, query, texts)
        usage = Usage(requests=1, input_tokens=_count(model, query, texts))
        usage = Usage(usage.requests, usage.input_tokens, cost_usd=self.price(usage))
        return Reranking(scores, usage, self.rates.seconds(usage))

    def _scores(self, model: Any, query: str, texts: list[str]) -> tuple[float, ...]:
        if not texts:
            return ()
        pairs = [(query, text) for text in texts]
        return tuple(float(score) for score in model.predict(pairs, batch_size=_BATCH, show_progress_bar=False))

    def _measure(self) -> Rates:
        model = self._model()
        query = "Which band plays again on Monday?"
        texts = ["The match was lost after the second half, and the band plays again on Monday. " * 4] * _BATCH
        self._scores(model, query, texts[:2])
        begun = time.perf_counter()
        self._scores(model, query, texts)
        return Rates(prefill=_count(model, query, texts) / (time.perf_counter() - begun), decode=None, batch=_BATCH)

    def _model(self) -> Any:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Any:
        from sentence_transformers import CrossEncoder

        from backends.local.quiet import quiet

        try:
            with quiet():
                model = CrossEncoder(
                    str(self._place.path),
                    device=self._device,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True, "dtype": _DTYPE},
                )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(Problem(self._name, f"cannot be opened: {error}", "Check its files.")) from error
        if model.num_labels != 1:
            what = f"is no cross-encoder: it gives {model.num_labels} figures for a pair, not one score."
            raise InputError(Problem(self._name, what, "Name a model that was trained to rank."))
        return model


def _check_kind(name: str, place: Place) -> None:
    """Refuse what transformers would load with a scoring layer of random numbers: an embedding or a chat model."""
    if (place.path / "modules.json").is_file():
        kind = read_json(place.path / "config_sentence_transformers.json")
        ranks = isinstance(kind, dict) and kind.get("model_type") == "CrossEncoder"
    else:
        config = read_json(place.path / "config.json")
        architectures = (config.get("architectures") if isinstance(config, dict) else None) or ()
        ranks = any(str(one).endswith("ForSequenceClassification") for one in architectures)
    if not ranks:
        raise InputError(Problem(name, "is no cross-encoder.", "Name a model that was trained to rank."))


def _count(model: Any, query: str, texts: list[str]) -> int:
    """Tokens that the model reads: what lies beyond its window is not counted."""
    if not texts:
        return 0
    found = model.tokenizer([query] * len(texts), texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    return sum(map(len, found))
