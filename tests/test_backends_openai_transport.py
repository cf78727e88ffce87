"""HTTP over reqwest as the SDK meets it: what came, what failed and whether anything was sent."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest

from backends.openai import sdk
from backends.openai.endpoints import Endpoint
from backends.openai.settings import EndpointSettings
from backends.openai.transport import Transport
from tests.raw_server import listening

TLS = Path(__file__).parent / "tls"
"""An authority and a certificate for 127.0.0.1 and localhost, made for these tests and trusted by nobody else."""
RIGHT = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\na dog"
KEY = "sk-planted-0123456789abcdef"


HERE = Endpoint("here", "http://127.0.0.1:1/v1", None, EndpointSettings())


@asynccontextmanager
async def client(*, is_streamed: bool = False, seconds: float = 5.0) -> AsyncIterator[httpx2.AsyncClient]:
    rust = sdk._http(HERE)
    transport = Transport(rust, is_streamed=is_streamed)
    async with httpx2.AsyncClient(transport=transport, timeout=seconds, trust_env=False) as http:
        yield http
    await rust.close()


def saying(
    *said: bytes, every: float = 0.0, tls: ssl.SSLContext | None = None
) -> contextlib.AbstractAsyncContextManager[str]:
    """Where each request is answered with these pieces; then the other side hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in said:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every)

    return listening(answer, tls)


async def test_an_answer_comes_with_all_its_headers_and_the_body_as_it_was_sent() -> None:
    packed = gzip.compress(b"a dog")
    head = b"HTTP/1.1 201 Made\r\nx-a: 1\r\nX-A: 2\r\nx-long: " + 20_000 * b"z" + b"\r\ncontent-encoding: gzip\r\n"
    async with saying(head + b"content-length: %d\r\n\r\n" % len(packed) + packed) as url, client() as http:
        found = await http.post(url, content=b"{}")
    assert (found.status_code, found.text) == (201, "a dog")
    assert found.headers.get_list("x-a") == ["1", "2"]
    assert len(found.headers["x-long"]) == 20_000


async def test_a_header_that_is_no_text_is_passed_over() -> None:
    odd = b"HTTP/1.1 200 OK\r\nx-odd: \xe9\xff\r\nx-plain: yes\r\ncontent-length: 5\r\n\r\na dog"
    async with saying(odd) as url, client() as http:
        found = await http.get(url)
    assert found.text == "a dog"
    assert found.headers["x-plain"] == "yes"
    assert "x-odd" not in found.headers


async def test_a_redirect_and_an_error_are_answers() -> None:
    for status in (b"307 Go", b"500 Broken"):
        answer = b"HTTP/1.1 " + status + b"\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
        async with saying(answer) as url, client() as http:
            assert (await http.post(url, content=b"{}")).status_code == int(status[:3])


LATE = {
    "no answer": (b"", httpx2.RemoteProtocolError),
    "half a head": (b"HTTP/1.1 200 OK\r\ncontent-le", httpx2.RemoteProtocolError),
    "half a body": (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na dog", httpx2.ReadError),
    "half a chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\na dog", httpx2.ReadError),
    "a broken chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\na dog\r\n", httpx2.ReadError),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\na dog", httpx2.ReadError),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", httpx2.ReadError),
}


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_fails_after_sending_is_no_failure_to_connect(name: str, is_streamed: bool) -> None:
    said, kind = LATE[name]
    async with saying(said) as url, client(is_streamed=is_streamed) as http:
        with pytest.raises(kind) as caught:
            await http.post(url, content=b"{}", headers={"authorization": f"Bearer {KEY}"})
    assert type(caught.value) is kind
    assert KEY not in str(caught.value)


async def test_a_connection_that_is_reset_has_broken_and_may_have_been_heard() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with listening(reset) as url, client() as http:
        with pytest.raises(httpx2.RemoteProtocolError, match="reset"):
            await http.post(url, content=b"{}")


async def test_nobody_listening_and_no_such_host_are_failures_to_connect() -> None:
    async with client() as http:
        with pytest.raises(httpx2.ConnectError, match="Connection refused"):
            await http.post("http://127.0.0.1:1/v1", content=b"{}")
        with pytest.raises(httpx2.ConnectError, match="lookup"):
            await http.post("http://nowhere.invalid/v1", content=b"{}")


async def test_a_connection_that_does_not_come_in_time_is_told_from_an_answer_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sdk, "_CONNECT_SECONDS", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        await asyncio.sleep(0.05)
        async with client() as http:
            with pytest.raises(httpx2.ConnectTimeout):
                await http.post(f"http://127.0.0.1:{full.getsockname()[1]}", content=b"{}")
        for each in waiting:
            each.close()


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na dog"])
async def test_an_answer_that_takes_too_long_is_cut_off_on_both_sides(is_streamed: bool, said: bytes) -> None:
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        while await reader.read(100):
            pass
        gone.set()

    async with listening(answer) as url, client(is_streamed=is_streamed, seconds=0.2) as http:
        with pytest.raises(httpx2.ReadTimeout):
            await http.post(url, content=b"{}")
        await asyncio.wait_for(gone.wait(), 10)


async def test_pieces_are_handed_on_as_they_come() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [b"5\r\nfirst\r\n", b"6\r\nsecond\r\n", b"0\r\n\r\n"]
    async with saying(head, *pieces, every=0.2) as url, client(is_streamed=True) as http:
        begun, came = time.perf_counter(), []
        async with http.stream("POST", url, content=b"{}") as answer:
            async for piece in answer.aiter_bytes():
                came.append((piece, time.perf_counter() - begun))
    assert [piece for piece, _ in came] == [b"first", b"second"]
    # The server waits 0.2 s between them: had they been gathered they would have come together.
    assert came[1][1] - came[0][1] > 0.1


async def test_reading_pieces_ends_where_anyio_stops_it() -> None:
    # The SDK reads what is left of a stream this way, and would take a cancellation of another text for its own task's.
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    async with saying(head, b"", every=0.5) as url, client(is_streamed=True) as http:
        async with http.stream("POST", url, content=b"{}") as answer:
            with anyio.move_on_after(0.1) as scope:
                async for piece in answer.aiter_bytes():
                    assert piece == b"first"
        assert scope.cancelled_caught


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_cancellation_is_never_lost_to_an_answer_that_comes_at_the_same_moment(
    is_streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "_IDLE_SECONDS", 0.1)
    begun = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(RIGHT)
            await writer.drain()
            begun.set()

    async with listening(answer) as url, client(is_streamed=is_streamed) as http:
        for turns in range(60):
            begun.clear()
            asking = asyncio.create_task(http.get(url))
            await begun.wait()
            for _ in range(turns % 6):
                await asyncio.sleep(0)
            if asking.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await asking


async def test_what_cannot_be_written_is_said_without_its_value() -> None:
    async with client() as http:
        with pytest.raises(httpx2.LocalProtocolError) as caught:
            await http.post("http://127.0.0.1:1/", content=b"{}", headers={"authorization": f"Bearer {KEY}\n"})
    assert KEY not in str(caught.value)


async def test_certificates_are_trusted_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(TLS / "leaf.pem", TLS / "leaf.key")
    async with saying(RIGHT, tls=tls) as url:
        async with client() as http:
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                await http.get(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
        async with client() as http:
            assert (await http.get(url)).text == "a dog"


SHORT = """
import asyncio
import backends.openai.transport
from pyreqwest.client import ClientBuilder

async def main():
    try:
        await ClientBuilder().build().post("http://nowhere.invalid/").body_bytes(b"").build().send()
    except Exception as error:
        print(error)

asyncio.run(main())
"""


def test_a_process_that_ends_right_after_an_answer_ends_well() -> None:
    # Without the pause at its end one in six is aborted.
    ended = [subprocess.run([sys.executable, "-c", SHORT], check=False, timeout=60).returncode for _ in range(8)]
    assert ended == [0] * 8
