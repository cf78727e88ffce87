"""An embedding model on this machine, by sentence-transformers."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from backends.errors import BackendUnavailable, InputError, Problem
from backends.local.catalog import Place, locate, require
from backends.local.device import device, hourly_price
from backends.local.heap import give_back
from backends.local.identity import fingerprint
from backends.local.rates import Rates, rates_key, remember, remembered
from backends.types import Embeddings, FloatArray, Usage

_DTYPE = "float32"
_BATCH = 32


class LocalEmbedder:
    """Implements Embedder in float32. Weights are loaded when they are first needed.

    Text beyond the model's window (256 tokens for all-MiniLM-L6-v2) is cut off, as sentence-transformers does, and is
    not counted.
    """

    billed = False

    def __init__(self, name: str, place: Place, *, usd_per_hour: float | None) -> None:
        self._name = name
        self._place = place
        self._device = device()
        self._usd_per_hour = hourly_price(self._device, usd_per_hour)
        self._loaded: Any = None
        self._loading = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="advisor-embed")
        self._closed = False

    @classmethod
    def open(cls, name: str, *, usd_per_hour: float | None = None, folder: Path | None = None) -> LocalEmbedder:
        """Open `local/...`. Raises InputError, or answers in milliseconds."""
        place = locate(name, folder)
        require(name, place, embedder=True)
        return cls(name, place, usd_per_hour=usd_per_hour)

    @property
    def name(self) -> str:
        """The model's name as the user wrote it."""
        return self._name

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of weights, tokenizer, precision and library versions."""
        return fingerprint(self._place, _DTYPE, "sentence-transformers")

    @functools.cached_property
    def rates(self) -> Rates:
        """Tokens a second on this machine; the first time on a machine this loads the model and measures."""
        key = rates_key(self._place, f"embed {_DTYPE}", self._device)
        return remembered(key) or remember(key, self._name, self._measure())

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage: tokens at this machine's rate and hourly price."""
        return None if self._usd_per_hour is None else self.rates.cost(usage, self._usd_per_hour)

    def worst_case(self, texts: Sequence[str]) -> Usage:
        """The texts' tokens, counted."""
        usage = Usage(requests=1, input_tokens=_count(self._model(), list(texts)))
        return Usage(usage.requests, usage.input_tokens, cost_usd=self.price(usage))

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed the texts, in order, in the model's own thread."""
        if self._closed:
            raise BackendUnavailable("the model has been closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, list(texts))

    async def aclose(self) -> None:
        """Wait for the texts at hand, then free the weights."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)
        self._loaded = None
        give_back()

    def _embed(self, texts: list[str]) -> Embeddings:
        model = self._model()
        vectors = self._vectors(model, texts)
        usage = Usage(requests=1, input_tokens=_count(model, texts))
        usage = Usage(usage.requests, usage.input_tokens, cost_usd=self.price(usage))
        return Embeddings(vectors, usage, self.rates.seconds(usage))

    def _vectors(self, model: Any, texts: list[str]) -> FloatArray:
        if not texts:
            return np.zeros((0, model.get_embedding_dimension()), np.float32)
        # sentence-transformers sorts by length itself and gives the vectors back in order.
        vectors = model.encode(texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def _measure(self) -> Rates:
        model = self._model()
        texts = ["The match was lost after the second half, and the band plays again on Monday. " * 4] * _BATCH
        self._vectors(model, texts[:2])
        begun = time.perf_counter()
        self._vectors(model, texts)
        return Rates(prefill=_count(model, texts) / (time.perf_counter() - begun), decode=None, batch=_BATCH)

    def _model(self) -> Any:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Any:
        from sentence_transformers import SentenceTransformer

        from backends.local.quiet import quiet

        try:
            with quiet():
                return SentenceTransformer(
                    str(self._place.path),
                    device=self._device,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True, "dtype": _DTYPE},
                )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(Problem(self._name, f"cannot be opened: {error}", "Check its files.")) from error


def _count(model: Any, texts: list[str]) -> int:
    """Tokens that the model reads: what lies beyond its window is not counted."""
    if not texts:
        return 0
    ids = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    return sum(map(len, ids))
