"""What is known of an endpoint's models without asking it: prices, context, what tuning costs, and when they stop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from backends.openai.basis import price_basis
from backends.openai.endpoints import OPENAI, USUAL, Endpoint, find
from backends.openai.lifecycle import Lifecycle, lifecycle_of, named_models
from backends.openai.prices import prices, training_price, tuned_models

_DATE = re.compile(r"-\d{4}-\d\d-\d\d$")


@dataclass(frozen=True, slots=True)
class Known:
    """One model of an endpoint. Dollars are per million tokens; None is unknown."""

    name: str
    """`ENDPOINT/MODEL`."""
    usd: tuple[float, float | None, float | None] | None
    """Of prompt, cached prompt and answer. A cached prompt of None costs what others do, an answer of None has no
    price."""
    prices: str
    """The prices and their source in a phrase."""
    prices_date: date | None
    context: int | None
    """Tokens of the longest prompt and its answer."""
    training_usd: float | None
    """Per million trained tokens: those of the file times epochs."""
    training_usd_per_hour: float | None
    training_source: str
    lifecycle: Lifecycle

    @property
    def is_tunable(self) -> bool:
        """Whether its maker sells fine-tuning of it; `lifecycle.training_ends` says until when."""
        return self.training_usd is not None or self.training_usd_per_hour is not None


def known(name: str) -> Known:
    """What is known of `ENDPOINT/MODEL`. Raises InputError when there is no such endpoint."""
    endpoint, model = find(name)
    found, basis = prices(endpoint, model), price_basis(name)
    training = training_price(model) if endpoint.is_openai or endpoint.name == OPENAI else None
    rates = None if found is None else tuple(None if r is None else r.usd for r in (found.cached, found.output))
    return Known(
        name=name,
        usd=None if found is None or rates is None else (found.input.usd, rates[0], rates[1]),
        prices=basis.text,
        prices_date=basis.date,
        context=_context(endpoint, model),
        training_usd=None if training is None else training.usd_per_1m_tokens,
        training_usd_per_hour=None if training is None else training.usd_per_hour,
        training_source="" if training is None else f"{training.source}, read {training.read}",
        lifecycle=lifecycle_of(name),
    )


def short_list() -> tuple[str, ...]:
    """OpenAI's models with a shutdown date, those that can be tuned, and what is to replace them; without versions."""
    # By its usual address: what stops does so wherever `openai` is sent.
    priced = set(published(Endpoint(OPENAI, *USUAL[OPENAI])))
    named = [f"{OPENAI}/{_DATE.sub('', model)}" for model in (*named_models(), *tuned_models())]
    instead = [lifecycle_of(name).replacement for name in named]
    wanted = [*named, *(f"{OPENAI}/{name}" for name in instead if name)]
    return tuple(name for name in dict.fromkeys(wanted) if name in priced)


def published(endpoint: Endpoint) -> tuple[str, ...]:
    """The names of an endpoint's models that genai-prices knows; none where it does not know the endpoint."""
    provider = _provider(endpoint)
    return () if provider is None else tuple(f"{endpoint.name}/{model.id}" for model in provider.models)


def _context(endpoint: Endpoint, model: str) -> int | None:
    provider = _provider(endpoint)
    if provider is None:
        return None
    found = provider.find_model(model.lower())
    return None if found is None else found.context_window


def _provider(endpoint: Endpoint) -> Any:
    if endpoint.is_loopback and endpoint.provider is None:
        return None
    from genai_prices.data_snapshot import get_snapshot

    url = None if endpoint.provider else endpoint.base_url
    try:
        return get_snapshot().find_provider(None, endpoint.provider, url)
    except LookupError:
        return None
