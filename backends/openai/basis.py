"""What the dollars of an endpoint's model rest on."""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime

from backends.basis import PriceBasis
from backends.openai.endpoints import find
from backends.openai.prices import Prices, Rate, prices


def price_basis(name: str, usd_per_hour: float | None = None) -> PriceBasis:
    """The token prices of `ENDPOINT/MODEL` and their source; an hour of a machine has no part in them."""
    endpoint, model = find(name)
    found = prices(endpoint, model)
    if found is None:
        return PriceBasis("unknown: set endpoints.NAME.prices in advisor.toml", given=False, known=False)
    given = endpoint.prices_of(model) is not None
    published = found.source.startswith("genai-prices ")
    day = _package_date(datetime.now(UTC).date()) if published else found.read
    return PriceBasis(f"{shown(found)} per 1M tokens in / cached / out: {found.source}", given, True, day)


def shown(found: Prices) -> str:
    """Dollars per million tokens as `0.4 / 0.1 / 1.6`: prompt, cached prompt, answer; `-` where one has no price."""
    return " / ".join(_rate(rate) for rate in (found.input, found.cached, found.output))


def _rate(rate: Rate | None) -> str:
    return "-" if rate is None else f"{rate.usd:.4g}"


@functools.cache
def _package_date(today: date) -> date | None:
    """Day of the newest price change in genai-prices that is in force: the package does not say when it was made."""
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import StartDateConstraint

    starts = [
        price.constraint.start_date
        for provider in get_snapshot().providers
        for model in provider.models
        for price in (model.prices if isinstance(model.prices, list) else ())
        if isinstance(price.constraint, StartDateConstraint)
    ]
    return max((start for start in starts if start <= today), default=None)
