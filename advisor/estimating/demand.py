"""What is asked of models: requests and tokens, as spans, by model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from advisor.span import NONE, Span

Demands = Mapping[str, "Demand"]
"""By the model's name."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one model is asked."""

    requests: Span = NONE
    input_tokens: Span = NONE
    """All prompt tokens."""
    opening_tokens: Span = NONE
    """Of these, tokens with which the prompts of all samples begin alike: a prompt cache may serve them."""
    output_tokens: Span = NONE

    def __add__(self, other: Demand) -> Demand:
        return Demand(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.opening_tokens + other.opening_tokens,
            self.output_tokens + other.output_tokens,
        )

    def __mul__(self, by: Span | float) -> Demand:
        return Demand(self.requests * by, self.input_tokens * by, self.opening_tokens * by, self.output_tokens * by)

    def one_of(self, others: Iterable[Demand]) -> Demand:
        """This or one of the others, nobody knows which."""
        found = [self, *others]
        return Demand(
            Span.one_of([one.requests for one in found]),
            Span.one_of([one.input_tokens for one in found]),
            Span.one_of([one.opening_tokens for one in found]),
            Span.one_of([one.output_tokens for one in found]),
        )


def added(*several: Demands) -> Demands:
    """The sum, model by model."""
    return reduce(_sum, several, {})


def times(demands: Demands, by: Span | float) -> Demands:
    """The same, so often."""
    return {name: demand * by for name, demand in demands.items()}


def one_of(several: Iterable[Demands]) -> Demands:
    """One of several, nobody knows which; what some do not ask at all is nothing there."""
    found = list(several)
    names = dict.fromkeys(name for demands in found for name in demands)
    first, *rest = found
    return {name: first.get(name, Demand()).one_of(one.get(name, Demand()) for one in rest) for name in names}


def _sum(left: Demands, right: Demands) -> Demands:
    names = dict.fromkeys((*left, *right))
    return {name: left.get(name, Demand()) + right.get(name, Demand()) for name in names}
