"""How the endpoints' clients meet the network: proxies, what they tell, and bodies that end too soon."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import httpx2
import pytest

from backends.errors import BackendUnavailable
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.failures import BilledError
from backends.openai.retries import Policy
from backends.openai.sdk import Clients
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.types import ChatRequest, Message
from tests.openai_server import Server, in_thread
from tests.raw_server import listening

FAR = "https://models.example.com/v1"
RIGHT = b'{"choices": [{"message": {"content": "a dog"}, "finish_reason": "stop"}]}'
ASK = ChatRequest((Message("user", "What is it?"),), max_tokens=20)


def chat_at(url: str, **settings: bool) -> OpenAIChat:
    endpoint = Endpoint("e", url, None, EndpointSettings(prices={"*": TokenPrices(1.0, 2.0)}, **settings))
    return OpenAIChat("e/m", endpoint, "m", policy=Policy(attempts=2, first_seconds=0.001))


def saying(heard: list[bytes], *said: bytes) -> contextlib.AbstractAsyncContextManager[str]:
    """Where somebody listens who says these things, the last one again and again, and hangs up each time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100_000))
        writer.write(said[min(len(heard), len(said)) - 1])
        await writer.drain()

    return listening(answer)


async def test_a_proxy_that_refuses_is_told_of_and_is_shown_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    async with saying(heard, b"HTTP/1.1 407 Log in first\r\ncontent-length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        chat = chat_at(FAR)
        with pytest.raises(BackendUnavailable, match=f"{FAR} cannot be reached: .*proxy authorization"):
            await chat.complete(ASK)
        await chat.aclose()
    assert heard
    assert all(b"What is it" not in text for text in heard)


async def test_a_socks_proxy_that_refuses_is_told_of_and_is_shown_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    async with saying(heard, b"\x05\xff") as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.replace("http", "socks5h"))
        chat = chat_at(FAR)
        with pytest.raises(BackendUnavailable, match=f"{FAR} cannot be reached: .*SOCKS"):
            await chat.complete(ASK)
        await chat.aclose()
    assert heard
    assert all(text[:1] == b"\x05" and len(text) < 10 for text in heard)


async def test_no_proxy_is_asked_for_what_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Server() as server:
        chat = chat_at(server.url)
        await chat.complete(ASK)
        await chat.aclose()
    assert len(server.bodies) == 1


@pytest.mark.parametrize("places", [1, 10])
async def test_an_endpoint_that_hangs_up_unsaid_gets_a_connection_for_each_request(places: int) -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(RIGHT) + RIGHT)
        await writer.drain()
        # By now the next request is under way.
        await asyncio.sleep(0.005)

    async with listening(answer) as url:
        settings = EndpointSettings(prices={"*": TokenPrices(1.0, 2.0)}, max_concurrency=places)
        chat = OpenAIChat("e/m", Endpoint("e", f"{url}/v1", None, settings), "m", policy=Policy(first_seconds=0.001))
        asked = [replace(ASK, messages=(Message("user", f"What is {number}?"),)) for number in range(60)]
        usages = [answer.usage for answer in await asyncio.gather(*map(chat.complete, asked))]
        await chat.aclose()
    lost = sum(usage.requests - 1 for usage in usages)
    # Each that was under way when the first was lost may be lost, too; without the remedy it is a quarter of all.
    assert 1 <= lost <= 2 * places
    assert connections >= 60


@pytest.mark.parametrize("status", ["200 OK", "500 Broken"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_that_ends_too_soon_may_have_been_billed(status: str, stream: bool) -> None:
    heard: list[bytes] = []
    head = "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
    right = head.format("200 OK", len(RIGHT)).encode() + RIGHT
    async with saying(heard, right, head.format(status, 9999).encode() + b'{"choices": [') as url:
        chat = chat_at(f"{url}/v1", stream=stream)
        await chat.complete(ASK)
        with pytest.raises(BilledError, match="cut the connection before the answer was complete") as caught:
            await chat.complete(ASK)
        await chat.aclose()
    assert caught.value.usage.requests == len(heard) - 1 == 2
    assert caught.value.usage.cost_usd


async def test_an_endpoint_is_told_nothing_of_this_machine() -> None:
    async with Server() as server:
        chat = chat_at(server.url)
        await chat.complete(ASK)
        await chat.aclose()
    told = {name for headers in server.request_headers for name in headers if name.startswith("x-stainless")}
    assert server.request_headers
    assert told <= {"x-stainless-retry-count", "x-stainless-read-timeout"}


@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings"])
async def test_what_goes_the_short_way_is_told_as_the_sdk_tells_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIR_KEY", "sk-planted")
    body = {"model": "m", "input": "ü ☂", "messages": [{"role": "user", "content": "ü ☂"}]}
    async with Server() as server:
        endpoint = Endpoint("e", server.url, "THEIR_KEY", EndpointSettings(timeout_seconds=12.5))
        clients = Clients(endpoint, endpoint.key())
        await clients.whole.post(path, cast_to=httpx2.Response, body=body)
        for _ in range(2):
            await clients.post(path, body)
        await clients.aclose()
    first, *others = ({**headers, "user-agent": ""} for headers in server.request_headers)
    assert others == [first, first]
    assert all("OpenAI/Python" in headers["user-agent"] for headers in server.request_headers)
    assert first["authorization"] == "Bearer sk-planted"
    # An idempotency key that several requests share would have them answered as one.
    assert not [name for name in first if "idempotency" in name]
    assert server.bodies == [body] * 3


async def test_a_crowd_that_comes_first_is_served_whole() -> None:
    async with Server() as server:
        chat = chat_at(server.url)
        asked = [replace(ASK, messages=(Message("user", f"What is {number}?"),)) for number in range(50)]
        answers = await asyncio.gather(*map(chat.complete, asked))
        await chat.aclose()
    assert len(answers) == len({str(body) for body in server.bodies}) == len(server.bodies) == 50
    assert len({tuple(sorted(headers.items())) for headers in server.request_headers}) <= 2  # lengths differ


def test_a_loop_that_ends_early_leaves_the_next_one_nothing_to_stumble_over() -> None:
    with in_thread(Server()) as server:
        for turns in range(6):
            chat = chat_at(server.url)

            async def leave(chat: OpenAIChat, turns: int) -> None:
                begun = [asyncio.create_task(chat.complete(ASK)) for _ in range(5)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                assert len(begun) == 5

            async def stay(chat: OpenAIChat) -> list[str]:
                answers = await asyncio.gather(*(chat.complete(ASK) for _ in range(5)))
                await chat.aclose()
                return [answer.text for answer in answers]

            asyncio.run(leave(chat, turns))
            assert asyncio.run(stay(chat)) == ["What is it?"] * 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cookie_goes_back_so_that_a_balancer_finds_the_same_server(stream: bool) -> None:
    async with Server(headers={"set-cookie": "route=node-7; Path=/"}) as server:
        chat = chat_at(server.url, stream=stream)
        for _ in range(3):
            await chat.complete(ASK)
        await chat.aclose()
    assert [headers.get("cookie") for headers in server.request_headers] == [None, "route=node-7", "route=node-7"]


async def test_the_log_tells_what_was_answered_and_nothing_that_was_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with Server(headers={"x-request-id": "req-9"}) as server:
        chat = chat_at(server.url)
        await chat.complete(ASK)
        await chat.aclose()
    told = [record.getMessage() for record in caplog.records]
    assert [text for text in told if "200" in text] == ["POST /chat/completions: 200, request req-9"]
    assert not [text for text in told if "What is it" in text]
