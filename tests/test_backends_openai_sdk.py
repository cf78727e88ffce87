"""What never left the house is told apart from what may have been billed."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp
import openai
import pytest

from backends.errors import BackendUnavailable
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.retries import Policy
from backends.openai.sdk import never_sent
from backends.types import ChatRequest, Message
from tests.openai_server import Server

ENDPOINT = Endpoint("e", "https://models.example.com/v1", None)
ASK = ChatRequest((Message("user", "What is it?"),))
WHERE: Any = aiohttp.client_reqrep.ConnectionKey("models.example.com", 443, True, True, None, None, None)


def raised(cause: BaseException) -> openai.APIConnectionError:
    """As the SDK raises it: two others stand before what happened."""
    error = openai.APIConnectionError(request=None)  # type: ignore[arg-type]
    error.__cause__ = RuntimeError("the transport's")
    error.__cause__.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (aiohttp.ClientConnectorDNSError(WHERE, OSError("Name or service not known")), "there is no host 'models.exa"),
        (aiohttp.ClientConnectorError(WHERE, OSError(111, "refused")), "cannot be reached: [Errno 111] refused. Check"),
        (aiohttp.ClientConnectorSSLError(WHERE, ssl.SSLError(1, "no TLS here")), "cannot be reached: "),
        (
            aiohttp.ClientConnectorCertificateError(WHERE, ssl.SSLCertVerificationError("self-signed")),
            "the certificate of 'models.example.com' cannot be trusted: ('self-signed',). Nothing was sent.",
        ),
        (aiohttp.ConnectionTimeoutError("no answer to a knock"), "cannot be reached: no answer to a knock."),
    ],
)
def test_a_request_that_was_never_sent_says_why(cause: BaseException, words: str) -> None:
    assert words in str(never_sent(raised(cause), ENDPOINT))


@pytest.mark.parametrize(
    "cause",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.ClientPayloadError("half an answer"),
        aiohttp.SocketTimeoutError("slow"),
    ],
)
def test_what_broke_within_a_request_may_have_been_billed(cause: BaseException) -> None:
    assert never_sent(raised(cause), ENDPOINT) is None


async def test_a_proxy_that_refuses_is_named_and_is_shown_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        chat = OpenAIChat("e/m", ENDPOINT, "m", policy=Policy(attempts=2, first_seconds=0.001))
        with pytest.raises(BackendUnavailable, match="the proxy answers 407 Proxy Authentication Required"):
            await chat.complete(ASK)
        await chat.aclose()
    assert heard
    assert all(b"What is it" not in text for text in heard)


async def test_an_endpoint_is_told_nothing_of_this_machine() -> None:
    async with Server() as server:
        chat = OpenAIChat("e/m", Endpoint("e", server.url, None), "m")
        await chat.complete(ASK)
        await chat.aclose()
        told = {name for headers in server.request_headers for name in headers if name.startswith("x-stainless")}
    assert server.request_headers
    assert told <= {"x-stainless-retry-count", "x-stainless-read-timeout"}
