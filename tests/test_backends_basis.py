"""What a model's dollars rest on and when it stops, asked by its name and without opening it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from backends import hardware, registry
from backends.errors import InputError
from backends.hardware import Hardware, default_price

SETTINGS = registry.Settings()
ENDPOINTS = """
[endpoints.azure]
base_url = "https://acme.openai.azure.com/openai/v1"
key_env = "AZURE_KEY"
[endpoints.own]
base_url = "https://models.example.com/v1"
[endpoints.own.prices."*"]
input = 1.5
output = 3
[endpoints.proxy]
base_url = "https://proxy.example.com/v1"
provider = "openai"
"""


@pytest.fixture(autouse=True)
def endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "advisor.toml").write_text(ENDPOINTS, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "shutdown", "training"),
    [
        ("openai/gpt-4.1-mini", date(2027, 1, 14), date(2027, 1, 6)),
        ("openai/ft:gpt-4.1-mini-2025-04-14:acme::x", date(2027, 1, 14), date(2027, 1, 6)),
        ("proxy/gpt-4.1-mini", date(2027, 1, 14), date(2027, 1, 6)),
        ("azure/gpt-4.1-mini-2025-04-14.ft-0123:acme", date(2027, 10, 14), date(2027, 4, 14)),
        ("azure/gpt-4.1-mini", None, None),
        ("own/gpt-4.1-mini", None, None),
        ("openai/gpt-6-luna", None, None),
    ],
)
def test_dates_hold_where_the_maker_serves_the_model(name: str, shutdown: date | None, training: date | None) -> None:
    found = registry.lifecycle(name)
    assert found is not None
    assert (found.shutdown, found.training_ends) == (shutdown, training)


def test_a_local_model_stays_as_long_as_its_files_do() -> None:
    assert registry.lifecycle("local/smollm2-135m") is None
    with pytest.raises(InputError):
        registry.lifecycle("nowhere/model")


def test_prices_name_their_source_and_its_day() -> None:
    published = registry.price_basis("openai/gpt-4.1-mini", SETTINGS)
    assert published.text.startswith("0.4 / 0.1 / 1.6 per 1M tokens in / cached / out: genai-prices ")
    assert published.date is not None
    assert published.date <= date.today()
    tuned = registry.price_basis("openai/ft:gpt-4.1-mini-2025-04-14:acme::x", SETTINGS)
    assert tuned.date == date(2026, 11, 22)
    own = registry.price_basis("own/anything", SETTINGS)
    assert (own.given, own.date) == (True, None)
    assert own.text.startswith("1.5 / - / 3 ")
    unknown = registry.price_basis("openai/no-such-model", SETTINGS)
    assert (unknown.known, unknown.date) == (False, None)


def test_an_hour_of_this_machine_is_the_users_or_an_assumption(monkeypatch: pytest.MonkeyPatch) -> None:
    given = registry.price_basis("local/smollm2-135m", registry.Settings(usd_per_hour=1.5))
    assert (given.given, given.text) == (True, "$1.5 an hour: the scenario")
    monkeypatch.setattr(hardware, "detect", lambda: Hardware("cpu", 4, 16.0))
    assumed = registry.price_basis("local/smollm2-135m", SETTINGS)
    assert not assumed.given
    assert assumed.text.startswith("$0.16 an hour: assumption")


def test_the_price_of_a_gpu_has_the_day_on_which_it_was_read() -> None:
    found = default_price(Hardware("cpu", 8, 64.0, "NVIDIA H100 80GB HBM3", 80.0), on_gpu=True)
    assert found.read == date(2026, 11, 9)
    assert default_price(Hardware("cpu", 8, 64.0), on_gpu=False).read is None


def test_a_script_says_when_its_model_stops(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"rules": [], "shutdown": "2027-01-14", "replacement": "next"}), encoding="utf-8")
    found = registry.lifecycle(f"scripted/{path}")
    assert found is not None
    assert (found.shutdown, found.training_ends, found.replacement) == (date(2027, 1, 14), None, "next")
    assert registry.price_basis(f"scripted/{path}", SETTINGS).known
