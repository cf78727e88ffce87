"""What tokens cost at an endpoint: the user's own prices, then our table of tuned models, then genai-prices.

All of it lies on this machine; nothing is fetched. A price that none of them knows is None, never zero.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib import resources
from typing import Any

import yaml

from backends.openai.endpoints import Endpoint
from backends.openai.tokens import base_model
from backends.types import Usage

_DATE = re.compile(r"-\d{4}-\d\d-\d\d$")
_OPENAI_BATCH = 0.5
"""Share of the price that OpenAI bills in batches (guide to the Batch API, 2026)."""
_KINDS = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok")


@dataclass(frozen=True, slots=True)
class Rate:
    """Dollars per million tokens, dearer beyond a prompt length where the provider has such tiers."""

    usd: float
    tiers: tuple[tuple[int, float], ...] = ()
    """(prompt tokens, dollars): applies to all tokens of a request whose prompt is longer; ascending."""

    def at(self, input_tokens: int) -> float:
        """The rate for a request with a prompt of this length."""
        return next((usd for start, usd in reversed(self.tiers) if input_tokens > start), self.usd)

    def scaled(self, share: float) -> Rate:
        """The rate with a share of its dollars."""
        return Rate(self.usd * share, tuple((start, usd * share) for start, usd in self.tiers))


@dataclass(frozen=True, slots=True)
class Prices:
    """What one model costs, and who says so."""

    input: Rate
    output: Rate | None
    """Of answers; None for embedding models, and for others when it is not known."""
    cached: Rate | None = None
    """Of prompt tokens that a prompt cache served; None where they cost what others do."""
    written: Rate | None = None
    """Of prompt tokens that were put into a prompt cache; None where they cost what others do."""
    per_request: float = 0.0
    """Dollars for each request beside its tokens."""
    source: str = ""
    read: date | None = None
    """Day on which the source was read; None where it is the user, or a package whose version tells."""

    @property
    def is_free(self) -> bool:
        """True when nothing costs anything."""
        rates = [rate for rate in (self.input, self.output, self.cached, self.written) if rate is not None]
        return not self.per_request and all(rate.usd == 0 and not any(usd for _, usd in rate.tiers) for rate in rates)

    def cost(self, usage: Usage, written_tokens: int = 0) -> float | None:
        """Dollars for a usage, None when not all of it has a price.

        Tiers go by the mean prompt length when the usage is of several requests.

        Args:
            usage: What was used.
            written_tokens: How many of its prompt tokens were put into a prompt cache.
        """
        if self.output is None and usage.output_tokens:
            return None
        length = usage.input_tokens // max(1, usage.requests)
        plain = self.input.at(length)
        output = 0.0 if self.output is None else self.output.at(length)
        cached = plain if self.cached is None else self.cached.at(length)
        written = plain if self.written is None else self.written.at(length)
        fresh = usage.input_tokens - usage.cached_tokens - written_tokens
        dollars = fresh * plain + usage.cached_tokens * cached + written_tokens * written
        return (dollars + usage.output_tokens * output) / 1e6 + usage.requests * self.per_request

    def scaled(self, share: float) -> Prices:
        """The prices with a share of every rate."""
        input, output, cached, written = (
            None if rate is None else rate.scaled(share)
            for rate in (self.input, self.output, self.cached, self.written)
        )
        assert input is not None
        return Prices(input, output, cached, written, self.per_request * share, self.source, self.read)

    def dearest_input(self, input_tokens: int) -> int:
        """How many plain prompt tokens cost what these do when all of them are written into a cache."""
        if self.written is None:
            return input_tokens
        plain, written = self.input.at(input_tokens), self.written.at(input_tokens)
        return input_tokens if written <= plain else int(input_tokens * written / plain) + 1 if plain else input_tokens


@dataclass(frozen=True, slots=True)
class TrainingPrice:
    """What it costs to tune a model at OpenAI. An estimate: see `source`."""

    usd_per_1m_tokens: float | None
    """Per million trained tokens: those of the file times epochs."""
    usd_per_hour: float | None
    """Reinforcement fine-tuning is billed by the hour."""
    source: str
    read: date


def prices(endpoint: Endpoint, model: str, tuned_from: str | None = None) -> Prices | None:
    """What a model costs at an endpoint, None when nobody told.

    `tuned_from` is the base of a tuned model whose name does not show it.
    """
    own = endpoint.settings.prices.get(model) or endpoint.prices_of(f"ft:{tuned_from}:" if tuned_from else model)
    if own is not None:
        cached = None if own.cached is None else Rate(own.cached)
        output = None if own.output is None else Rate(own.output)
        return Prices(Rate(own.input), output, cached, source="the user's advisor.toml")
    tuned = tuned_from is not None or base_model(model) != model
    if tuned and endpoint.is_openai:
        return _tuned(model) or _published(endpoint, model)
    # The base's price would be found under a tuned model's name elsewhere, and be wrong.
    return None if tuned else _published(endpoint, model)


def batch_prices(endpoint: Endpoint, model: str, tuned_from: str | None = None) -> Prices | None:
    """What a model costs in a batch: as published, else half at OpenAI, else what it costs singly."""
    single = prices(endpoint, model, tuned_from)
    if single is None:
        return None
    if single == _published(endpoint, model):
        batched = _published(endpoint, model, {"processing": "batch"})
        # Where no price for batches is known the standard one comes back.
        if batched is not None and batched != single:
            return batched
    return single.scaled(_OPENAI_BATCH) if endpoint.is_openai else single


def spends_money(endpoint: Endpoint, known: Prices | None) -> bool:
    """False when the user says that a model costs nothing, or gives no price for a server of this machine's own.

    A server on this machine that wants a key may be a proxy, which passes requests on to somebody who bills.
    """
    return not endpoint.is_our_own if known is None else not known.is_free


def training_price(model: str) -> TrainingPrice | None:
    """What tuning a base model costs at OpenAI, None when it is not known."""
    row = _row(model)
    if row is None:
        return None
    source = _table()["sources"]["training"]
    return TrainingPrice(row["training"], row.get("training_per_hour"), source["text"], source["read"])


def tuned_models() -> tuple[str, ...]:
    """The models whose training has a price in our table."""
    return tuple(_table()["fine_tuned"])


def _tuned(model: str) -> Prices | None:
    row = _row(model)
    if row is None:
        return None
    source = _table()["sources"]["inference"]
    cached = None if row["cached"] is None else Rate(row["cached"])
    return Prices(Rate(row["input"]), Rate(row["output"]), cached, source=source["text"], read=source["read"])


def _row(model: str) -> Mapping[str, Any] | None:
    base = base_model(model)
    rows: Mapping[str, Mapping[str, Any]] = _table()["fine_tuned"]
    # `gpt-4.1-mini` stands for its dated name; another date of the same family has a price of its own.
    return next((row for name, row in rows.items() if base in (name, _DATE.sub("", name))), None)


@functools.cache
def _table() -> Mapping[str, Any]:
    text = (resources.files("backends.openai") / "prices.yaml").read_text(encoding="utf-8")
    table: Mapping[str, Any] = yaml.safe_load(text)
    return table


def _published(endpoint: Endpoint, model: str, context: dict[str, str] | None = None) -> Prices | None:
    if endpoint.is_loopback and endpoint.provider is None:
        return None
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    where = (endpoint.provider, None) if endpoint.provider else (None, endpoint.base_url)
    try:
        _, found = get_snapshot().find_provider_model(model, None, *where)
    except LookupError:
        return None
    now = found.get_prices(datetime.now(UTC), context)
    rates = {kind: _rate(getattr(now, kind)) for kind in _KINDS}
    if rates["input_mtok"] is None:
        return None
    per_thousand = _rate(now.requests_kcount)
    return Prices(
        input=rates["input_mtok"],
        output=rates["output_mtok"],
        cached=rates["cache_read_mtok"],
        written=rates["cache_write_mtok"],
        per_request=0.0 if per_thousand is None else per_thousand.usd / 1000,
        source=f"genai-prices {genai_prices.__version__}",
    )


def _rate(found: Any) -> Rate | None:
    if found is None:
        return None
    if hasattr(found, "base"):
        return Rate(float(found.base), tuple((tier.start, float(tier.price)) for tier in found.tiers))
    return Rate(float(found))
