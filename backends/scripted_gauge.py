"""Counts and prices of scripted models: words, at the script's prices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backends.gauges import Training, Unseen
from backends.scripted import ScriptedChat, ScriptedEmbedder
from backends.types import ChatRequest, Usage


class ScriptedGauge:
    """Implements Gauge for `scripted/...`."""

    is_remote = False
    is_batched = False
    draws = 1
    caches_from = None
    unseen = Unseen()
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, model: ScriptedChat | ScriptedEmbedder) -> None:
        self.name = name
        self._model = model

    @classmethod
    def open(
        cls, name: str, *, usd_per_hour: float | None = None, embeds: bool = False, batched: bool = False
    ) -> ScriptedGauge:
        """The gauge of a script. Raises InputError for one that cannot be read."""
        return cls(name, ScriptedEmbedder.open(name) if embeds else ScriptedChat.open(name))

    @property
    def billed(self) -> bool:
        """True when the script says that calls cost money."""
        return self._model.billed

    @property
    def native_tools(self) -> bool:
        """True when the script says so."""
        return isinstance(self._model, ScriptedChat) and self._model.native_tools

    def prompt_tokens(self, request: ChatRequest) -> int:
        """Words of everything a model would read."""
        assert isinstance(self._model, ScriptedChat)
        return self._model.worst_case(request).input_tokens

    def answer_tokens(self, request: ChatRequest, text: str) -> int:
        """Words of the answer."""
        return max(1, self.text_tokens(text))

    def text_tokens(self, text: str) -> int:
        """Words of a text."""
        return len(re.findall(r"\w+", text))

    def price(self, usage: Usage) -> float | None:
        """Dollars by the script's prices."""
        return self._model.price(usage)

    def bill(self, usage: Usage) -> float | None:
        """The price: there are no batches."""
        return self.price(usage)

    def seconds(self, usage: Usage) -> float:
        """As scripted models tell them."""
        return (usage.input_tokens + usage.output_tokens) / (1000 if isinstance(self._model, ScriptedChat) else 10_000)

    def training(self, tokens: int, examples: int, recipe: Mapping[str, Any]) -> Training:
        """A count of words, once."""
        return Training(tokens, tokens / 1e6, tokens / 1000, billed=False)
