"""What a training at an endpoint costs: tokens times epochs times a price, which the user's own goes before ours."""

from __future__ import annotations

from backends.openai.endpoints import Endpoint
from backends.openai.prices import prices, training_price
from backends.openai.tokens import base_model


def usd_per_1m_tokens(endpoint: Endpoint, model: str) -> float | None:
    """Dollars per million trained tokens; None when nobody told. `model` may be a tuned model to go on from."""
    own = endpoint.prices_of(base_model(model))
    if own is not None and own.training is not None:
        return own.training
    known = training_price(model) if endpoint.is_openai else None
    return None if known is None else known.usd_per_1m_tokens


def is_billed(endpoint: Endpoint, model: str) -> bool:
    """False when the user says that training costs nothing, or gives no price for a server of this machine's own."""
    price = usd_per_1m_tokens(endpoint, model)
    if price is not None:
        return price > 0
    # Our own server whose requests have a price is somebody's: what its trainings cost is not known.
    requests = prices(endpoint, model)
    return not endpoint.is_our_own or not (requests is None or requests.is_free)


def are_requests_priced(endpoint: Endpoint, model: str) -> bool:
    """Whether it is known what requests to a model tuned from this one cost."""
    tuned = f"ft:{base_model(model)}:::"
    return endpoint.is_our_own or prices(endpoint, tuned) is not None


def cost(endpoint: Endpoint, model: str, tokens: int | None) -> float | None:
    """Dollars for so many trained tokens, None when their number or price is not known."""
    price = usd_per_1m_tokens(endpoint, model)
    return None if price is None or tokens is None else tokens * price / 1e6
