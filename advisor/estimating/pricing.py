"""From requests and tokens to dollars and seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from advisor.estimating.demand import Demand, Demands
from advisor.estimating.gauges import Gauges
from advisor.span import NONE, Span
from backends.gauges import Gauge
from backends.types import Usage

_FINE = 1000
"""Prices are asked for so many times the tokens, since usages are whole numbers."""
_FIRST_TOKEN, _TOKENS_A_SECOND, _AT_ONCE = Span(0.2, 0.6, 1.5), Span(30, 80, 200), Span(4, 16, 48)
"""Of an endpoint that nobody has asked yet: seconds until an answer begins, tokens a second, and requests at once."""
_HITS = Span(0.0, 0.5, 0.95)
"""Share of long enough beginnings that a provider's prompt cache serves: requests sent side by side miss it."""
_SHARED = Span(0.0, 0.85, 1.0)
"""Share of the common beginnings that a model on this machine computes only once, for a batch or longer."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What a part of a run takes, over all models. Unknown is None, and a sum with an unknown part is unknown."""

    requests: Span = NONE
    input_tokens: Span = NONE
    cached_tokens: Span = NONE
    output_tokens: Span = NONE
    usd: Span | None = NONE
    billed_usd: Span | None = NONE
    """The part of the dollars that leaves the house."""
    seconds: Span | None = NONE

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            _known_sum(self.usd, other.usd),
            _known_sum(self.billed_usd, other.billed_usd),
            _known_sum(self.seconds, other.seconds),
        )

    def __mul__(self, by: Span) -> Amount:
        """The same, so often; nothing where it is certain not to happen."""
        if by == NONE:
            return Amount()
        return Amount(
            self.requests * by,
            self.input_tokens * by,
            self.cached_tokens * by,
            self.output_tokens * by,
            None if self.usd is None else self.usd * by,
            None if self.billed_usd is None else self.billed_usd * by,
            None if self.seconds is None else self.seconds * by,
        )

    @classmethod
    def total(cls, *amounts: Amount) -> Amount:
        """The sum."""
        return reduce(lambda left, right: left + right, amounts, cls())

    def as_json(self) -> dict[str, Any]:
        """Every figure as `{low, expected, high}`."""
        minutes = None if self.seconds is None else self.seconds * (1 / 60)
        return {
            "requests": span_json(self.requests),
            "input_tokens": span_json(self.input_tokens),
            "cached_tokens": span_json(self.cached_tokens),
            "output_tokens": span_json(self.output_tokens),
            "usd": span_json(self.usd),
            "billed_usd": span_json(self.billed_usd),
            "minutes": span_json(minutes),
        }


def span_json(span: Span | None) -> dict[str, float] | None:
    """A span as the JSON object of the command shows it."""
    return None if span is None else {"low": span.low, "expected": span.expected, "high": span.high}


def priced(demands: Demands, gauges: Gauges, *, in_production: bool = False) -> Amount:
    """What these demands cost and how long they take: in a run, where they may go in batches, or in production."""
    return Amount.total(*(_priced(demand, gauges[name], in_production) for name, demand in demands.items()))


def _priced(demand: Demand, gauge: Gauge, in_production: bool) -> Amount:
    cached = _cached(demand, gauge)
    usd = _usd(demand, cached, gauge.price if in_production or not gauge.billed else gauge.bill)
    return Amount(
        demand.requests,
        demand.input_tokens,
        cached,
        demand.output_tokens,
        usd,
        usd if gauge.billed else NONE,
        _seconds(demand, gauge),
    )


def _cached(demand: Demand, gauge: Gauge) -> Span:
    """Prompt tokens that the provider's cache serves: none below its threshold, or where no cache is known of."""
    each = demand.opening_tokens.expected / (demand.requests.expected or 1.0)
    if gauge.caches_from is None or each < gauge.caches_from:
        return NONE
    return demand.opening_tokens * _HITS


def _usd(demand: Demand, cached: Span, price: Callable[[Usage], float | None]) -> Span | None:
    """Cheapest when most of the prompt is cached, dearest when nothing is."""
    least = _usage(demand, "low", demand.opening_tokens.low * _HITS.high if cached.high else 0.0)
    expected = _usage(demand, "expected", cached.expected)
    most = _usage(demand, "high", cached.low)
    ends = [price(usage) for usage in (least, expected, most)]
    known = [dollars / _FINE for dollars in ends if dollars is not None]
    return Span(*known) if len(known) == len(ends) else None


def _seconds(demand: Demand, gauge: Gauge) -> Span | None:
    if gauge.is_batched and demand.requests.high:
        return None
    if gauge.is_remote:
        low = demand.requests.low * _FIRST_TOKEN.low + demand.output_tokens.low / _TOKENS_A_SECOND.high
        expected = demand.requests.expected * _FIRST_TOKEN.expected
        expected += demand.output_tokens.expected / _TOKENS_A_SECOND.expected
        high = demand.requests.high * _FIRST_TOKEN.high + demand.output_tokens.high / _TOKENS_A_SECOND.low
        return Span(low / _AT_ONCE.high, expected / _AT_ONCE.expected, high / _AT_ONCE.low)
    shares = (("low", _SHARED.high), ("expected", _SHARED.expected), ("high", _SHARED.low))
    ends = [gauge.seconds(_computed(demand, end, share)) for end, share in shares]
    known = [seconds / _FINE for seconds in ends if seconds is not None]
    return Span(*known) if len(known) == len(ends) else None


def _computed(demand: Demand, end: str, share: float) -> Usage:
    """What this machine has to compute when this share of the common beginnings is computed once."""
    usage = _usage(demand, end, 0.0)
    spared = round(_FINE * share * getattr(demand.opening_tokens, end))
    return replace(usage, input_tokens=max(0, usage.input_tokens - spared))


def _usage(demand: Demand, end: str, cached: float) -> Usage:
    figures = (demand.requests, demand.input_tokens, demand.output_tokens)
    requests, prompt, answer = (round(_FINE * getattr(figure, end)) for figure in figures)
    return Usage(requests, prompt, min(prompt, round(_FINE * cached)), answer)


def _known_sum(left: Span | None, right: Span | None) -> Span | None:
    return None if left is None or right is None else left + right
