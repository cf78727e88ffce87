"""Counts and prices of a model behind an endpoint, without its key and without a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backends.gauges import Training, Unseen
from backends.openai import wire
from backends.openai.capabilities import memory_of, most_answers, takes_several, takes_tools
from backends.openai.endpoints import find
from backends.openai.forms import Form, conversation, form_of
from backends.openai.prices import batch_prices, prices, spends_money
from backends.openai.tokens import count, count_text, encoding_name
from backends.openai.training_costs import cost, is_billed
from backends.openai.training_recipe import Recipe
from backends.types import ChatRequest, Usage

_CACHED_FROM = 1024
"""Prompt tokens from which on OpenAI remembers the beginnings of prompts (its guide on prompt caching)."""
_EFFORTS: Mapping[str, Unseen] = {
    "none": Unseen(),
    "minimal": Unseen(0, 40, 512),
    "low": Unseen(0, 150, 1024),
    "medium": Unseen(64, 400, 4096),
    "high": Unseen(256, 1200, 4096),
}
"""Assumed reasoning on short tasks; only probes tell."""


class OpenAIGauge:
    """Implements Gauge for `openai/NAME` and `ENDPOINT/NAME`."""

    is_remote = True

    def __init__(self, name: str, batched: bool = False) -> None:
        self.name = name
        self._endpoint, self._model = find(name)
        self._prices = prices(self._endpoint, self._model)
        self._memory = memory_of(self._endpoint, self._model)
        self.is_batched = batched and self._endpoint.settings.batches and self.billed
        self._bill = batch_prices(self._endpoint, self._model) if self.is_batched else self._prices

    @classmethod
    def open(
        cls, name: str, *, usd_per_hour: float | None = None, embeds: bool = False, batched: bool = False
    ) -> OpenAIGauge:
        """The gauge of a chat or embedding model. Raises InputError when the endpoint is not described rightly."""
        return cls(name, batched and not embeds)

    @property
    def billed(self) -> bool:
        """Whether requests spend money that leaves the house; see `spends_money`."""
        return spends_money(self._endpoint, self._prices)

    @property
    def native_tools(self) -> bool:
        """What the endpoint's settings say, else whether it has refused tools before."""
        return takes_tools(self._endpoint, self._memory.refused)

    @property
    def draws(self) -> int:
        """As many as the endpoint takes, unless it has refused that before."""
        several = not self.is_batched and takes_several(self._endpoint, self._memory.refused)
        return most_answers(self._endpoint) if several else 1

    @property
    def caches_from(self) -> int | None:
        """OpenAI's own threshold; what other endpoints do is not known."""
        has_price = self._prices is not None and self._prices.cached is not None
        return _CACHED_FROM if self._endpoint.is_openai and has_price else None

    @property
    def unseen(self) -> Unseen:
        """Reasoning, for models known to reason; by the effort asked for where the endpoint's settings tell."""
        room = wire.reasoning_tokens(self._endpoint, self._model)
        effort = json.loads(self._endpoint.settings.extra_body).get("reasoning_effort")
        assumed = _EFFORTS.get(str(effort), _EFFORTS["medium"])
        return Unseen(*(min(room, tokens) for tokens in (assumed.low, assumed.expected, assumed.high)))

    @property
    def notes(self) -> tuple[str, ...]:
        """An assumed encoding, a missing price, reasoning."""
        found = []
        if encoding_name(self._model)[1]:
            found.append(f"{self.name}: tokens are counted by OpenAI's encoding, since its own is not known here.")
        if self._prices is None and self.billed:
            found.append(f"{self.name}: its price is not known; give it in advisor.toml.")
        if self.unseen.high:
            found.append(
                f"{self.name}: it reasons before it answers, about {self.unseen.expected:g} tokens by assumption; "
                "--probe measures it."
            )
        return tuple(found)

    def prompt_tokens(self, request: ChatRequest) -> int:
        """Messages with their framing, tools, and the schema or the sentence that asks for the form."""
        form = self._form(request)
        said = "" if form is None else form.instruction or form.schema
        return count(conversation(request, form), self._model, request.tools).tokens + count_text(said, self._model)

    def answer_tokens(self, request: ChatRequest, text: str) -> int:
        """The text, within the object that the form puts around it."""
        form = self._form(request)
        return count_text(text if form is None else form.shown(text), self._model)

    def text_tokens(self, text: str) -> int:
        """By the model's encoding."""
        return count_text(text, self._model)

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage, None when the price is not known."""
        return None if self._prices is None else self._prices.cost(usage)

    def bill(self, usage: Usage) -> float | None:
        """The price, or that of batches."""
        return None if self._bill is None else self._bill.cost(usage)

    def seconds(self, usage: Usage) -> None:
        """Not known before the endpoint is asked."""

    def training(self, tokens: int, examples: int, recipe: Mapping[str, Any]) -> Training | None:
        """By the user's price of training or the dated table's; how long a job waits and runs is not known."""
        told = recipe.get("epochs")
        epochs = Recipe(epochs=told if isinstance(told, int) else None).epochs_for(examples)
        dollars = cost(self._endpoint, self._model, tokens * epochs)
        return Training(tokens * epochs, dollars, None, billed=is_billed(self._endpoint, self._model))

    def _form(self, request: ChatRequest) -> Form | None:
        return form_of(request, self._memory.refused)
