from datetime import date
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot

from backends.openai.endpoints import Endpoint
from backends.openai.lifecycle import Lifecycle, lifecycle
from backends.openai.prices import Prices, Rate, prices, training_price
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.types import Usage

OPENAI = Endpoint("openai", "https://api.openai.com/v1", "OPENAI_API_KEY")


def test_published_prices_are_those_of_genai_prices_tiers_included() -> None:
    checked = 0
    provider = next(found for found in get_snapshot().providers if found.id == "openai")
    for model in provider.models:
        found = prices(OPENAI, model.id)
        if found is None or found.output is None or model.id.startswith("ft:") or ".ft-" in model.id:
            continue
        for given, cached, written, out in [(1000, 200, 0, 70), (300_000, 0, 1000, 5), (900_000, 800_000, 0, 9000)]:
            usage = genai_prices.Usage(
                input_tokens=given, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=out
            )
            wanted = genai_prices.calc_price(usage, model.id, provider_id="openai").total_price
            assert found.cost(Usage(1, given, cached, out), written) == pytest.approx(float(wanted)), model.id
            checked += 1
    assert checked > 100


def test_a_price_nobody_told_is_unknown_and_not_zero() -> None:
    assert prices(OPENAI, "no-such-model-9") is None
    assert prices(Endpoint("x", "https://models.example.com/v1", None), "gpt-4o") is None
    assert prices(Endpoint("x", "http://127.0.0.1:8000/v1", None), "gpt-4o") is None
    embedding = prices(OPENAI, "text-embedding-3-small")
    assert embedding is not None
    assert embedding.cost(Usage(1, 1_000_000)) == pytest.approx(0.02)
    assert embedding.cost(Usage(1, 10, 0, 10)) is None


def test_the_provider_is_known_by_its_address_or_by_name() -> None:
    groq = prices(Endpoint("g", "https://api.groq.com/openai/v1", "GROQ_KEY"), "llama-3.3-70b-versatile")
    named = Endpoint("g", "https://proxy.example.com/v1", None, EndpointSettings(provider="groq"))
    assert groq is not None
    assert prices(named, "llama-3.3-70b-versatile") == groq


def test_the_users_own_prices_go_first() -> None:
    own = {"gpt-4o": TokenPrices(9.0, 9.0, 0.9), "*": TokenPrices(0.0, 0.0)}
    endpoint = Endpoint("openai", OPENAI.base_url, None, EndpointSettings(prices=own))
    found = prices(endpoint, "gpt-4o")
    assert found is not None
    assert found.cost(Usage(1, 1_000_000, 500_000, 0)) == pytest.approx(4.5 + 0.45)
    assert not found.is_free
    other = prices(endpoint, "anything")
    assert other is not None
    assert other.is_free


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("ft:gpt-4.1-mini-2025-04-14:acme::x", 0.8 + 0.2 * 0.5 - 0.8 * 0.5 + 3.2),
        ("ft:gpt-4o-mini-2024-07-18:acme:name:x:ckpt-step-20", 0.15 + 0.075 + 1.2),
        ("ft:gpt-4.1-mini:acme::x", 0.4 + 0.1 + 3.2),
    ],
)
def test_tuned_models_have_the_prices_of_tuned_models(model: str, wanted: float) -> None:
    found = prices(OPENAI, model)
    assert found is not None
    assert found.cost(Usage(1, 1_000_000, 500_000, 1_000_000)) == pytest.approx(wanted)
    assert "litellm" in found.source
    assert found.read == date(2026, 11, 22)


def test_a_tuned_model_elsewhere_does_not_get_its_bases_price() -> None:
    azure = Endpoint("azure", "https://acme.openai.azure.com/openai/v1", "AZURE_KEY")
    assert prices(azure, "gpt-4o-mini") is not None
    assert prices(azure, "gpt-4o-mini-2024-07-18.ft-0123:acme") is None


def test_a_colon_in_a_name_makes_no_tuned_model() -> None:
    extended, plain = prices(OPENAI, "gpt-4o:extended"), prices(OPENAI, "gpt-4o")
    assert extended is not None
    assert plain is not None
    assert extended.input.usd > plain.input.usd


def test_training_prices_have_a_source_and_a_date() -> None:
    mini = training_price("gpt-4.1-mini-2025-04-14")
    assert mini is not None
    assert (mini.usd_per_1m_tokens, mini.usd_per_hour) == (5.0, None)
    assert "mid-2025" in mini.source
    reinforced = training_price("o4-mini-2025-04-16")
    assert reinforced is not None
    assert (reinforced.usd_per_1m_tokens, reinforced.usd_per_hour) == (None, 100.0)
    assert training_price("gpt-6-luna") is None
    assert training_price("gpt-4.1-mini-2026-01-01") is None


def test_prompt_tokens_are_reserved_at_what_writing_them_into_a_cache_costs() -> None:
    dear = Prices(Rate(1.0), Rate(2.0), written=Rate(1.25))
    most = dear.cost(Usage(1, dear.dearest_input(1001)))
    written = dear.cost(Usage(1, 1001), 1001)
    assert most is not None
    assert written is not None
    assert written <= most < written * 1.01
    assert Prices(Rate(1.0), Rate(2.0)).dearest_input(1001) == 1001


def test_every_row_of_our_tables_says_where_it_comes_from() -> None:
    from backends.openai import lifecycle as module

    rows: list[Any] = [*module._rows("models"), *module._rows("azure_fine_tunes")]
    assert rows
    assert all(row["source"] and row["read"] and row["shutdown"] for row in rows)


@pytest.mark.parametrize(
    ("model", "shutdown", "training_ends"),
    [
        ("gpt-4.1-mini", date(2027, 1, 14), date(2027, 1, 6)),
        ("ft:gpt-4o-mini-2024-07-18:acme::x", date(2027, 1, 14), date(2027, 1, 6)),
        ("gpt-4.1-nano-2025-04-14", date(2026, 10, 23), date(2026, 10, 23)),
        ("ft:o4-mini-2025-04-16:acme::x", date(2026, 10, 23), date(2026, 10, 23)),
        ("gpt-4-turbo", date(2026, 10, 23), date(2026, 10, 23)),
        ("gpt-4.1-mini-2025-04-14.ft-0123:acme", date(2027, 10, 14), date(2027, 4, 14)),
    ],
)
def test_announced_dates_are_known_for_bases_and_their_fine_tunes(
    model: str, shutdown: date, training_ends: date
) -> None:
    found = lifecycle(model)
    assert (found.shutdown, found.training_ends) == (shutdown, training_ends)
    assert found.source


def test_a_model_without_announcement_has_no_dates() -> None:
    assert lifecycle("gpt-6-luna") == Lifecycle()
    assert lifecycle("gpt-4o-2024-05-13").shutdown is None
    assert lifecycle("gpt-4.1-mini").replacement == "gpt-6-luna"
