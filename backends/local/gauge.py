"""Counts and prices of a model on this machine, by what was measured here before; nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends import hardware
from backends.gauges import Training, Unseen
from backends.local.catalog import locate
from backends.local.device import chat_dtype, hourly_price
from backends.local.launch import shared_out
from backends.local.rates import rates_key, remembered, remembered_training_rate
from backends.local.recipe import Recipe
from backends.local.tokens import LocalTokens
from backends.types import ChatRequest, Usage

_TRAINED_IN = ("bfloat16", "float32")


class LocalGauge:
    """Implements Gauge for `local/...`."""

    billed = False
    native_tools = False
    is_remote = False
    is_batched = False
    draws = 1
    caches_from = None
    unseen = Unseen()

    def __init__(self, name: str, *, usd_per_hour: float | None, embeds: bool) -> None:
        self.name = name
        self._place = locate(name)
        # Not by torch, which takes seconds to import; without a usable GPU no rates are found, which is said.
        self._device = "cpu" if hardware.detect().gpu is None else "cuda"
        self._given_usd_per_hour = usd_per_hour
        self._usd_per_hour = hourly_price(self._device, usd_per_hour)
        dtype = "embed float32" if embeds else chat_dtype(self._device)
        self._rates = remembered(rates_key(self._place, dtype, self._device))
        self._tokens = LocalTokens(self._place)

    @classmethod
    def open(
        cls, name: str, *, usd_per_hour: float | None = None, embeds: bool = False, batched: bool = False
    ) -> LocalGauge:
        """The gauge of a chat or embedding model. Raises InputError when it is not on this machine."""
        return cls(name, usd_per_hour=usd_per_hour, embeds=embeds)

    @property
    def notes(self) -> tuple[str, ...]:
        """A tokenizer that cannot be read yet, rates that have not been measured."""
        found = []
        if not self._tokens.is_exact:
            found.append(f"{self.name}: tokens are counted as 4 characters each until it has run here once.")
        if self._rates is None:
            found.append(f"{self.name}: its speed here is not known until it has run here once.")
        return tuple(found)

    def prompt_tokens(self, request: ChatRequest) -> int:
        """By the model's tokenizer and template."""
        return self._tokens.prompt(request)

    def answer_tokens(self, request: ChatRequest, text: str) -> int:
        """The text alone: what its form asks for is enforced and not written."""
        return self._tokens.text(text)

    def text_tokens(self, text: str) -> int:
        """By the model's tokenizer."""
        return self._tokens.text(text)

    def price(self, usage: Usage) -> float | None:
        """Dollars at the rates measured here, None before they were."""
        return None if self._rates is None else self._rates.cost(usage, self._usd_per_hour)

    def bill(self, usage: Usage) -> float | None:
        """The price: there are no batches."""
        return self.price(usage)

    def seconds(self, usage: Usage) -> float | None:
        """Machine time at the rates measured here."""
        return None if self._rates is None else self._rates.seconds(usage)

    def training(self, tokens: int, examples: int, recipe: Mapping[str, Any]) -> Training | None:
        """By the rate of the first training on this machine in as many processes, where there was one.

        Raises InputError for a recipe that this machine cannot train by.
        """
        told = shared_out(Recipe.parse(recipe), examples, hardware.gpu_count() if self._device == "cuda" else None)
        count = told.processes or 1
        trained = tokens * (told.filled(examples=examples, hidden=1, dtype="float32").epochs or 1)
        dtypes = (told.dtype,) if told.dtype else _TRAINED_IN
        rates = [remembered_training_rate(rates_key(self._place, dtype, self._device, count)) for dtype in dtypes]
        rate = next((known for known in rates if known is not None), None)
        seconds = None if rate is None else trained / rate
        usd_per_hour = hourly_price(self._device, self._given_usd_per_hour, gpus=count)
        usd = None if seconds is None or usd_per_hour is None else seconds * usd_per_hour / 3600
        return Training(trained, usd, seconds, billed=False)
