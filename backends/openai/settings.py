"""What `[endpoints.NAME]` in advisor.toml, or `endpoints:` in a scenario, may say beside address and key.

Imports nothing heavy.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backends.errors import Problem


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """The user's own prices of a model, in dollars per million tokens."""

    input: float
    output: float | None = None
    """Of answers; None for embedding models."""
    cached: float | None = None
    """Of prompt tokens that a prompt cache served; None where they cost what others do."""
    training: float | None = None
    """Of tokens that a tuning job of this model trains on: those of the samples times epochs."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Settings of one endpoint, with the defaults of those not given."""

    allow_http: bool = False
    """Allow plain http to other machines than this one."""
    extra_body: str = "{}"
    """JSON object of fields that go into every request, for instance `{"reasoning_effort": "low"}`."""
    provider: str | None = None
    """The provider's id in genai-prices, where the address does not tell it."""
    prices: Mapping[str, TokenPrices] = field(default_factory=dict)
    """By model; `ft:BASE` stands for all models tuned from it, `*` for all that are not named."""
    tools: bool | None = None
    """Whether models take tools; None finds out."""
    reasoning_tokens: int | None = None
    """Tokens that an answer may take beside those asked for, to reason; None takes 4096 for models known to reason."""
    timeout_seconds: float = 600.0
    """How long to wait for one answer."""
    max_concurrency: int = 256
    """Most requests under way at once; fewer when the endpoint says so."""
    stream: bool = False
    """Have answers streamed, which tells the seconds to the first token."""
    batches: bool = True
    """Whether `--batch` sends this endpoint's requests in batches; False where it has none."""

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> EndpointSettings:
        """The settings of a table that `settings_problems` found nothing wrong with."""
        given = {key: section[key] for key in _CHECKS if key in section and key not in {"base_url", "key_env"}}
        if "extra_body" in given:
            given["extra_body"] = json.dumps(given["extra_body"], ensure_ascii=False, sort_keys=True)
        if "prices" in given:
            given["prices"] = {model: TokenPrices(**row) for model, row in given["prices"].items()}
        return cls(**given)


def settings_problems(where: str, section: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with a table: unknown keys and values of the wrong kind."""
    return [Problem(where, what, remedy) for _, what, remedy in wrong_settings(section)]


def wrong_settings(section: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The same as (key, what is wrong, what to do about it)."""
    found = []
    for key, value in section.items():
        if key not in _CHECKS:
            near = difflib.get_close_matches(key, _CHECKS, n=1)
            remedy = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(_CHECKS))}."
            found.append((key, f"unknown key {key!r}.", remedy))
            continue
        is_valid, wanted = _CHECKS[key]
        if not is_valid(value):
            # The value is not shown: a key may have been written where its variable's name belongs.
            found.append((key, f"{key} must be {wanted}.", "Correct it."))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _is_positive(value: object) -> bool:
    return _is_number(value) and value != 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_variable(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()


def _is_json_object(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, dict)


def _are_prices(value: object) -> bool:
    return isinstance(value, dict) and all(_is_price(row) for row in value.values())


def _is_price(row: object) -> bool:
    known = {"input", "output", "cached", "training"}
    return isinstance(row, dict) and "input" in row and set(row) <= known and all(map(_is_number, row.values()))


_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "base_url": (_is_text, 'an address such as "https://host/v1"'),
    "key_env": (_is_variable, "the name of the environment variable that holds the key"),
    "allow_http": (lambda value: isinstance(value, bool), "true or false"),
    "extra_body": (_is_json_object, "a table of fields for every request"),
    "provider": (_is_text, "a provider's id in genai-prices, such as groq"),
    "prices": (_are_prices, "a table of models with input, output, cached and training in dollars per million tokens"),
    "tools": (lambda value: isinstance(value, bool), "true or false"),
    "reasoning_tokens": (_is_count, "a whole number of tokens"),
    "timeout_seconds": (_is_positive, "a number of seconds"),
    "max_concurrency": (lambda value: _is_count(value) and value != 0, "a whole number of requests"),
    "stream": (lambda value: isinstance(value, bool), "true or false"),
    "batches": (lambda value: isinstance(value, bool), "true or false"),
}
