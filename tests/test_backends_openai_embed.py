from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.errors import BackendUnavailable, RequestError
from backends.openai.embed import OpenAIEmbedder
from backends.openai.endpoints import Endpoint
from backends.openai.failures import BilledError
from backends.openai.retries import Policy
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.openai.tokens import count_text
from tests import openai_server as wire
from tests.openai_server import Fault, Json, Server, error

QUICK = Policy(first_seconds=0.001, most_seconds=0.01)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))


def embedder_of(server: Server) -> OpenAIEmbedder:
    settings = EndpointSettings(prices={"*": TokenPrices(1.0)})
    endpoint = Endpoint("here", server.url, None, settings)
    return OpenAIEmbedder("here/text-embedding-3-small", endpoint, "text-embedding-3-small", policy=QUICK)


async def embed(server: Server, *texts: str) -> Any:
    embedder = embedder_of(server)
    try:
        return await embedder.embed(texts)
    finally:
        await embedder.aclose()


async def test_vectors_come_in_order_and_of_length_one() -> None:
    texts = ["a", "bbbb", "cc"]
    async with Server() as server:
        found = await embed(server, *texts)
    wanted = np.array([[len(text) + 1, 1.0, 2.0] for text in texts])
    np.testing.assert_allclose(found.vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-6)
    assert found.vectors.dtype == np.float32
    tokens = sum(count_text(text, "text-embedding-3-small") for text in texts)
    assert (found.usage.requests, found.usage.input_tokens, found.usage.output_tokens) == (1, tokens, 0)
    assert found.usage.cost_usd == pytest.approx(server.billed_usd)
    assert server.bodies[0]["encoding_format"] == "base64"


async def test_many_texts_go_in_batches_and_cost_no_more_than_reserved() -> None:
    texts = [f"text number {number}" for number in range(600)]
    async with Server() as server:
        found = await embed(server, *texts)
        assert [len(body["input"]) for body in server.bodies] == [256, 256, 88]
        worst = embedder_of(server).worst_case(texts)
    assert found.vectors.shape == (600, 3)
    assert found.usage.requests == 3
    assert worst.cost_usd is not None
    assert found.usage.cost_usd == pytest.approx(server.billed_usd)
    assert worst.cost_usd > 2 * server.billed_usd


async def test_no_texts_are_no_request_and_empty_ones_are_sent_as_a_space() -> None:
    async with Server() as server:
        assert (await embed(server)).vectors.shape[0] == 0
        assert not server.bodies
        assert (await embed(server, "")).vectors.shape == (1, 3)
        assert server.bodies[0]["input"] == [" "]


async def test_an_endpoint_that_knows_no_base64_is_asked_for_numbers() -> None:
    def fault(number: int, body: Json) -> Fault | None:
        return error(400, "unknown field encoding_format") if "encoding_format" in body else None

    async with Server(fault=fault) as server:
        assert (await embed(server, "a")).vectors.shape == (1, 3)
        await embed(server, "b")
    assert len(server.bodies) == 3


@pytest.mark.parametrize("fault", [wire.BUSY, wire.BROKEN, wire.HTML])
async def test_what_passes_is_asked_again(fault: Fault) -> None:
    async with Server(fault=lambda number, body: None if number else fault) as server:
        assert (await embed(server, "a")).usage.requests == 1


async def test_an_attempt_that_was_cut_off_is_counted_in_full() -> None:
    async with Server(fault=lambda number, body: None if number else wire.CUT) as server:
        found = await embed(server, "some words")
    assert found.usage.requests == 2
    assert found.usage.cost_usd >= server.billed_usd


WRONG = {
    "per token": (lambda text: [[1.0, 2.0], [3.0, 4.0]], "start its server with pooling"),
    "no length": (lambda text: [0.0, 0.0], "without length"),
    "not finite": (lambda text: [float("nan"), 1.0], "numbers that are none"),
    "too large": (lambda text: [1e300, 1.0], "numbers that are none"),
    "two dimensions": (lambda text: [1.0] * (len(text) + 1), "different dimensions"),
    "no numbers": (lambda text: ["x"], "no embedding"),
    "numbers beyond all": (lambda text: [10**400, 1], "numbers that are none"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_vectors_of_no_use_are_an_error_with_its_cost(name: str) -> None:
    vector, words = WRONG[name]

    def plain(number: int, body: Json) -> Fault | None:
        return error(400, "unknown field encoding_format") if "encoding_format" in body else None

    async with Server(vector=vector, fault=plain) as server:
        with pytest.raises(BilledError, match=words) as caught:
            await embed(server, "a", "bb")
    assert caught.value.usage.cost_usd == pytest.approx(server.billed_usd)


ENDLESS: Json = {"data": [{"index": float("inf"), "embedding": [1.0]}] * 2}


@pytest.mark.parametrize("tokens", [10**400, 10**18, -5, 0, "many", None])
async def test_a_token_count_that_is_none_is_counted_here(tokens: object) -> None:
    async with Server(extra={"usage": {"prompt_tokens": tokens}}) as server:
        found = await embed(server, "a", "bb")
    assert found.usage.cost_usd == pytest.approx(server.billed_usd)


@pytest.mark.parametrize("extra", [{"data": []}, {"data": None}, {"data": [{"index": 0}]}, ENDLESS])
async def test_an_answer_without_the_vectors_is_an_error(extra: Json) -> None:
    async with Server(extra=extra) as server:
        with pytest.raises(RequestError, match=r"vectors for|no embedding"):
            await embed(server, "a", "b")


async def test_a_later_dimension_must_be_the_first_one() -> None:
    sizes = iter([3, 4])

    async with Server() as server:
        embedder = embedder_of(server)
        for size in sizes:
            server.vector = lambda text, size=size: [1.0] * size  # type: ignore[misc]
            if size == 3:
                await embedder.embed(["a"])
            else:
                with pytest.raises(RequestError, match="different dimensions"):
                    await embedder.embed(["a"])
        await embedder.aclose()


async def test_a_wrong_key_stops_the_run() -> None:
    async with Server(fault=lambda number, body: wire.WRONG_KEY) as server:
        with pytest.raises(BackendUnavailable, match="refuses the key"):
            await embed(server, "a")


async def test_what_was_paid_before_a_failure_is_told() -> None:
    async with Server(fault=lambda number, body: wire.TOO_LONG if number == 1 else None) as server:
        with pytest.raises(BilledError) as caught:
            await embed(server, *(f"text {number}" for number in range(300)))
    assert caught.value.usage.cost_usd == pytest.approx(server.billed_usd)
    assert server.billed_usd > 0
