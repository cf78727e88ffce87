"""Carries the SDK's requests over reqwest, the HTTP client of Rust, which does its work beside the event loop.

httpx2's own transport speaks HTTP in Python, on the loop: half of what a call cost, and most of what two hundred calls
at once waited for (docs/log.md has the figures).
"""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import httpx2
from pyreqwest.client import Client
from pyreqwest.exceptions import ConnectError, DetailedPyreqwestError, PyreqwestError, RequestTimeoutError
from pyreqwest.request import RequestBuilder, StreamRequest
from pyreqwest.response import Response

Headers = Sequence[tuple[str, str]]
_Result = TypeVar("_Result")

# The thread of reqwest that gave the last answer may not have let go of the interpreter. Were this ended meanwhile, the
# process would abort (PyO3 on Python before 3.13); in a pause that thread comes to its end.
atexit.register(time.sleep, 0.05)

_CONNECTING = "(Connect)"
"""How hyper's errors name what failed before a connection stood. All others may have been received, and be billed."""


class Transport(httpx2.AsyncBaseTransport):
    """Sends with a client of reqwest, which several transports may share and whoever made it closes.

    Raises LocalProtocolError where the request cannot be written, ConnectError or ConnectTimeout where no connection
    stood: nothing was sent. Raises RemoteProtocolError where it broke in place of an answer, ReadError or
    ReadTimeout for all else: the request may have been received. All are httpx2's.
    """

    def __init__(self, client: Client, *, is_streamed: bool = False) -> None:
        """With `is_streamed` an answer is given when it begins, and read piece by piece; else when it is whole."""
        self.client = client
        """May be changed: requests under way end with the one that they began with."""
        self._send = _begun if is_streamed else _whole

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and answer with its status, headers and body as they came, compressed or not."""
        # Uploads are read as a whole: they are in memory anyway, and then their length is told.
        body = await request.aread()
        seconds = request.extensions["timeout"]["read"]
        return await self.send(request.method, str(request.url), request.headers.multi_items(), body, seconds)

    async def send(
        self, method: str, url: str, headers: Headers, body: bytes, seconds: float | None
    ) -> httpx2.Response:
        """The same for a request that is no object yet, within so many seconds; None waits for ever."""
        builder = self._builder(method, url, headers).body_bytes(body)
        # Who cancels a request waits no longer, but it goes on until it is answered: here is where it ends.
        builder = builder if seconds is None else builder.timeout(timedelta(seconds=seconds))
        with _translated():
            return await self._send(builder)

    def _builder(self, method: str, url: str, headers: Headers) -> RequestBuilder:
        try:
            return self.client.request(method, url).headers(headers)
        except ValueError:
            # Its text would hold the value, which may be the key.
            raise httpx2.LocalProtocolError("a header or the address cannot be written") from None


async def _whole(builder: RequestBuilder) -> httpx2.Response:
    response = await _heeding_cancellation(builder.build().send())
    return _answer(response, httpx2.ByteStream(bytes(await response.bytes())))


async def _begun(builder: RequestBuilder) -> httpx2.Response:
    # Pieces are handed on as they come: nothing is held back until a buffer is full.
    sending = builder.streamed_read_buffer_limit(0).build_streamed()
    response = await _heeding_cancellation(sending.__aenter__())
    return _answer(response, _Pieces(response, sending))


def _answer(response: Response, stream: httpx2.AsyncByteStream) -> httpx2.Response:
    try:
        headers = list(response.headers.items())
    except ValueError:
        headers = list(_readable(response))
    return httpx2.Response(response.status, headers=headers, stream=stream)


def _readable(response: Response) -> Iterator[tuple[str, str]]:
    """The headers that are text; one of other bytes tells us nothing."""
    for name in dict.fromkeys(response.headers.keys()):
        try:
            yield from [(name, value) for value in response.get_header_all(name)]
        except ValueError:
            continue


class _Pieces(httpx2.AsyncByteStream):
    """A body that is still coming."""

    def __init__(self, response: Response, sending: StreamRequest) -> None:
        self._reader = response.body_reader
        self._sending = sending

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            while (piece := await _cancelled_as_asked(self._reader.read_chunk())) is not None:
                yield bytes(piece)

    async def aclose(self) -> None:
        await self._sending.__aexit__(None, None, None)


async def _heeding_cancellation(waiting: Coroutine[Any, Any, _Result]) -> _Result:
    """Wait for it, and be cancelled also where the answer comes at the same moment: reqwest then forgets that."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    result = await waiting
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return result


async def _cancelled_as_asked(waiting: Coroutine[Any, Any, _Result]) -> _Result:
    """Wait for it, and let a cancellation through as it is: anyio, which the SDK waits with, knows its own by its text.

    reqwest's coroutines raise one of their own. A task for each request would do for both, but it sends a turn later.
    """
    task = asyncio.ensure_future(waiting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what httpx2 raises, as the SDK expects."""
    try:
        yield
    except PyreqwestError as error:
        # From None: the cause would show the same once more.
        raise _problem(error) from None


def _problem(error: PyreqwestError) -> httpx2.TransportError:
    causes: list[str] = []
    if isinstance(error, DetailedPyreqwestError):
        causes = [cause["message"] for cause in error.details["causes"] or ()]
    is_late = isinstance(error, RequestTimeoutError)
    if any(_CONNECTING in cause for cause in causes):
        return (httpx2.ConnectTimeout if is_late else httpx2.ConnectError)(_reason(causes))
    if isinstance(error, ConnectError):
        # A connection stood, and broke before an answer began.
        return httpx2.RemoteProtocolError(_reason(causes))
    return (httpx2.ReadTimeout if is_late else httpx2.ReadError)(_reason([error.message, *causes]))


def _reason(causes: list[str]) -> str:
    """The innermost causes: those before them say only at what."""
    return ": ".join(causes[-2:]).removeprefix(f"client error {_CONNECTING}: ")
