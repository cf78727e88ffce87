"""Gauges tell what a model will take without opening it, and what they tell is what it then takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends import hardware, registry
from backends.keyless import keyless
from backends.local.catalog import locate
from backends.local.rates import rates_key, training_rate
from backends.local.tokens import LocalTokens
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.scripted import ScriptedChat
from backends.types import ChatRequest, Message, Tool, Usage
from tests.local_models import save_model
from tests.openai_server import Server

ASKED = (Message("system", "Sort the message, as you were told."), Message("user", "My invoice is 12 EUR too high."))
SCHEMA = json.dumps(
    {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
)
REQUESTS = {
    "free": ChatRequest(ASKED),
    "choices": ChatRequest(ASKED, choices=("billing", "delivery")),
    "schema": ChatRequest(ASKED, json_schema=SCHEMA),
    "shown": ChatRequest((*ASKED, Message("assistant", "billing"), Message("user", "Where is my parcel?"))),
}
TOML = '[endpoints.stub]\nbase_url = "{}"\n[endpoints.stub.prices."*"]\ninput = 1.0\noutput = 2.0\n'


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("name", REQUESTS)
async def test_tokens_and_dollars_of_an_endpoint_are_those_that_it_bills(name: str) -> None:
    request = REQUESTS[name]
    async with Server() as server:
        settings = EndpointSettings(prices={"*": TokenPrices(1.0, 2.0)})
        Path("advisor.toml").write_text(TOML.format(server.url), "utf-8")
        gauge = registry.open_gauge("stub/gpt-4o-mini", registry.Settings())
        asked = gauge.prompt_tokens(request)
        chat = OpenAIChat("stub/gpt-4o-mini", Endpoint("stub", server.url, None, settings), "gpt-4o-mini")
        answer = await chat.complete(request)
        await chat.aclose()
    # What separators a schema is billed with is not published.
    assert asked == pytest.approx(answer.usage.input_tokens, abs=4)
    assert gauge.answer_tokens(request, answer.text) == pytest.approx(answer.usage.output_tokens, abs=2)
    assert gauge.price(answer.usage) == pytest.approx(answer.usage.cost_usd)


def test_an_openai_model_needs_no_key_to_be_gauged() -> None:
    assert registry.problem("openai/gpt-4.1-mini") is not None
    with keyless():
        assert registry.problem("openai/gpt-4.1-mini") is None
        gauge = registry.open_gauge("openai/gpt-4.1-mini", registry.Settings())
    assert gauge.billed
    assert gauge.price(Usage(1, 1_000_000, 0, 0)) == pytest.approx(0.4)
    assert gauge.caches_from == 1024
    assert registry.problem("openai/gpt-4.1-mini") is not None


def test_a_price_that_nobody_knows_is_none_and_said() -> None:
    gauge = registry.open_gauge("openai/gpt-unheard-of", registry.Settings())
    assert gauge.price(Usage(1, 1000, 0, 10)) is None
    assert any("price is not known" in note for note in gauge.notes)


def test_batches_are_billed_at_half_of_the_price() -> None:
    usage = Usage(1, 1_000_000, 0, 1_000_000)
    single, batched = (
        registry.open_gauge("openai/gpt-4.1-mini", registry.Settings(), batched=flag) for flag in (False, True)
    )
    assert batched.is_batched
    assert not single.is_batched
    assert batched.price(usage) == single.price(usage) == single.bill(usage)
    assert batched.bill(usage) == pytest.approx((single.bill(usage) or 0.0) / 2)


def test_models_that_reason_take_more_than_they_show() -> None:
    assert registry.open_gauge("openai/gpt-4.1-mini", registry.Settings()).unseen.high == 0
    reasons = registry.open_gauge("openai/gpt-5-mini", registry.Settings())
    assert 0 <= reasons.unseen.low < reasons.unseen.expected < reasons.unseen.high
    assert any("reasons" in note for note in reasons.notes)
    Path("advisor.toml").write_text('[endpoints.openai.extra_body]\nreasoning_effort = "none"\n', "utf-8")
    assert registry.open_gauge("openai/gpt-5-mini", registry.Settings()).unseen.high == 0


async def test_a_scripted_model_is_gauged_by_its_words(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"rules": [], "default": "one two three", "billed": True}), "utf-8")
    name = f"scripted/{path}"
    gauge, request = registry.open_gauge(name, registry.Settings()), ChatRequest(ASKED)
    answer = await ScriptedChat.open(name).complete(request)
    assert gauge.billed
    assert gauge.prompt_tokens(request) == answer.usage.input_tokens
    assert gauge.answer_tokens(request, answer.text) == answer.usage.output_tokens
    assert gauge.price(answer.usage) == answer.usage.cost_usd
    assert gauge.seconds(answer.usage) == pytest.approx(answer.seconds)


def test_a_local_models_prompts_are_counted_by_its_own_tokenizer_and_template(tmp_path: Path) -> None:
    from backends.local.catalog import Place
    from backends.local.prompts import Prompts
    from tests.local_models import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "model")
    prompts, counted = Prompts("local/x", tokenizer, [2]), LocalTokens(Place(tmp_path / "model"))
    assert counted.is_exact
    for request in (REQUESTS["free"], REQUESTS["shown"]):
        assert counted.prompt(request) == len(prompts.encode(request.messages))
    assert counted.text("refund 42") == len(prompts.encode_answer("refund 42")) - 1


def test_without_a_tokenizer_characters_are_counted_and_tools_too(tmp_path: Path) -> None:
    from backends.local.catalog import Place

    (tmp_path / "empty").mkdir()
    counted = LocalTokens(Place(tmp_path / "empty"))
    assert not counted.is_exact
    assert counted.text("x" * 40) == 10
    plain = ChatRequest(ASKED)
    tool = Tool("look_up", "Look a word up.", "{}")
    assert counted.prompt(ChatRequest(ASKED, tools=(tool,))) > counted.prompt(plain) > 10


def test_a_training_in_several_processes_is_told_by_their_rate_and_the_price_of_their_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = hardware.Hardware("cpu", 4, 16.0, "NVIDIA A100-SXM4-40GB", 40.0)
    monkeypatch.setattr(hardware, "detect", lambda: own)
    save_model(tmp_path / "model")
    gauge = registry.open_gauge(f"local/{tmp_path}/model", registry.Settings())
    given = registry.open_gauge(f"local/{tmp_path}/model", registry.Settings(usd_per_hour=3.6))
    place = locate(f"local/{tmp_path}/model")
    for count, seconds in ((1, 10.0), (4, 4.0)):
        training_rate(rates_key(place, "bfloat16", "cuda", count), "model", 1000, seconds)
    one = hardware.default_price(own, on_gpu=True).usd
    assert one is not None
    for gpus, seconds in ((1, 10.0), (4, 4.0)):
        monkeypatch.setattr(hardware, "gpu_count", lambda gpus=gpus: gpus)
        found = gauge.training(1000, 800, {"epochs": 1})
        assert found is not None
        assert found.seconds == pytest.approx(seconds)
        assert found.usd == pytest.approx(seconds * one * gpus / 3600)
        # Who gives a price gives the whole machine's.
        known = given.training(1000, 800, {"epochs": 1})
        assert known is not None
        assert known.usd == pytest.approx(seconds * 3.6 / 3600)
    alone = gauge.training(1000, 800, {"epochs": 1, "processes": 1})
    assert alone is not None
    assert alone.seconds == pytest.approx(10.0)
    assert (unmeasured := gauge.training(1000, 800, {"epochs": 1, "processes": 2})) is not None
    assert unmeasured.seconds is None


def test_gpus_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    own = hardware.Hardware("cpu", 4, 16.0, "NVIDIA L4", 22.5)
    monkeypatch.setattr(hardware, "detect", lambda: own)
    monkeypatch.setattr(hardware, "_listed_gpus", lambda: ("NVIDIA L4, 23034",) * 3)
    count = hardware.gpu_count.__wrapped__
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert count() == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert count() == 2
