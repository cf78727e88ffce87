"""The connection to one endpoint, shared by all its models: sends, waits, sends again, and says what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import httpx2
import openai

from backends.errors import BackendUnavailable, RequestError
from backends.openai.endpoints import Endpoint
from backends.openai.failures import Failure, Kind, failed, failed_within, no_json
from backends.openai.limits import Limiter
from backends.openai.redact import redact, without_key
from backends.openai.retries import Policy, asked_delay, exhausted_delay
from backends.openai.sdk import Clients
from backends.openai.streams import Streamed, streamed
from backends.openai.untrusted import MALFORMED, UNREADABLE, read_json

_OUTAGE = 8
"""So many requests in a row given up is an outage, not bad luck."""
_DOUBTS = 6
"""Attempts before a doubtful failure stops the run, where the endpoint has answered before; else it is the second."""

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.LocalProtocolError)

Body = Mapping[str, Any]
Send = Callable[[openai.AsyncOpenAI], Awaitable[httpx2.Response]]
"""Sends one request with the client it is given."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the endpoint."""

    body: Mapping[str, Any]
    seconds: float
    """Wall-clock seconds of the attempt that succeeded, without waiting for a place."""
    lost: int
    """Attempts before it that may have been billed, those before the call included."""
    first_token_seconds: float | None = None
    """Wall-clock seconds until the first token of that attempt; known where the answer was streamed."""
    content: bytes = b""
    """What came back where no JSON was expected; `body` is empty then."""


class Refused(Exception):
    """The endpoint will not take the request as it is; another form of it may do."""

    def __init__(self, failure: Failure, lost: int) -> None:
        super().__init__(failure.text)
        self.failure = failure
        self.lost = lost


class GaveUp(Exception):
    """The request has failed for good."""

    def __init__(self, text: str, lost: int) -> None:
        super().__init__(text)
        self.lost = lost


class Connection:
    """The client of one endpoint in one event loop."""

    def __init__(self, endpoint: Endpoint, policy: Policy) -> None:
        self._endpoint = endpoint
        self._policy = policy
        self._key = endpoint.key()
        self._clients = Clients(endpoint, self._key)
        self._rng = random.Random(f"{endpoint.base_url}:retries")
        self.limiter = Limiter(endpoint.settings.max_concurrency)
        self.users = 0
        """Models that use the connection; the last one to leave closes it."""
        self._has_answered = False
        self._given_up = 0

    async def post(self, path: str, body: Body, lost: int = 0) -> Reply:
        """Send a request until it is answered. Raises Refused, GaveUp, RequestError or BackendUnavailable.

        `lost` is how many attempts at the same answer were lost before, in another form of the request.
        """

        async def ask(clients: Clients) -> Reply | Failure:
            return self._read(await clients.post(path, body))

        return await self._until_answered(ask, lost)

    async def stream(self, path: str, body: Body, lost: int = 0) -> Reply:
        """As `post`, but have the answer streamed, so that the time to its first token is known."""

        async def ask(clients: Clients) -> Reply | Failure:
            found = await streamed(clients.streamed, path, body)
            return found if isinstance(found, Failure) else self._read_stream(found)

        return await self._until_answered(ask, lost)

    async def call(self, send: Send, *, is_json: bool = True, is_repeatable: bool = True, lost: int = 0) -> Reply:
        """Send any request until it is answered; raises as `post` does.

        Args:
            send: Sends it once.
            is_json: Whether the answer is JSON; else its bytes are in `Reply.content`.
            is_repeatable: False for what must not be done twice: GaveUp is raised as soon as it may have been done.
            lost: As for `post`.
        """

        async def ask(clients: Clients) -> Reply | Failure:
            return self._read(await send(clients.whole), is_json)

        return await self._until_answered(ask, lost, is_repeatable)

    async def _until_answered(self, ask: _Ask, lost: int, is_repeatable: bool = True) -> Reply:
        failures: list[Failure] = []
        while True:
            found = await self._attempt(ask)
            if isinstance(found, Reply):
                self._has_answered = True
                self._given_up = 0
                return replace(found, lost=lost) if lost else found
            failures.append(found)
            lost += found.kind is Kind.LOST
            if not is_repeatable and found.kind in {Kind.LOST, Kind.BROKEN}:
                raise GaveUp(found.text, lost)
            self._settle(failures, lost)
            await asyncio.sleep(self._policy.delay(len(failures), self._rng))

    async def aclose(self) -> None:
        """Close all connections."""
        self.limiter.close()
        await self._clients.aclose()

    def _settle(self, failures: list[Failure], lost: int) -> None:
        """Raise when there is no point in another attempt."""
        last = failures[-1]
        if last.kind is Kind.REFUSED:
            raise Refused(last, lost)
        if last.kind is Kind.BAD:
            raise GaveUp(last.text, lost)
        doubts = sum(failure.kind is Kind.DOUBTFUL for failure in failures)
        if last.kind is Kind.FATAL or doubts >= (_DOUBTS if self._has_answered else 2):
            raise BackendUnavailable(last.text)
        if last.wait_seconds is not None and last.wait_seconds > self._policy.patience_seconds:
            raise BackendUnavailable(
                f"{last.text} It asks to wait for {last.wait_seconds:.6g} s. Go on later with --resume."
            )
        if lost > self._policy.lost or len(failures) >= self._policy.attempts:
            self._give_up(last, len(failures), lost)

    def _give_up(self, last: Failure, attempts: int, lost: int) -> None:
        self._given_up += 1
        tries = "attempt" if attempts == 1 else "attempts"
        text = f"{last.text} Given up after {attempts} {tries}."
        if not self._has_answered or self._given_up >= _OUTAGE:
            raise BackendUnavailable(text)
        raise GaveUp(text, lost)

    async def _attempt(self, ask: _Ask) -> Reply | Failure:
        async with self.limiter.slot():
            try:
                async with asyncio.timeout(self._endpoint.settings.timeout_seconds):
                    found = await ask(self._clients)
            except (openai.APIError, httpx2.HTTPError, TimeoutError) as error:
                if isinstance(_cause(error), httpx2.RemoteProtocolError):
                    # It may have closed a connection that it did not say it would, and would do so again.
                    self._clients.keep_no_connections()
                failure = self._clean(self._failure(error))
            except UnicodeEncodeError:
                # From None, here and elsewhere: what the SDK raises holds the request, and the request the key.
                raise RequestError("the prompt holds half of a surrogate pair, which is no text") from None
            except (*MALFORMED, AssertionError) as error:
                # Such as a page in `charset=hex`, which the client's own decoder stumbles over.
                what = f"{self._endpoint.base_url} sent an answer that cannot be read ({type(error).__name__})."
                failure = Failure(Kind.LOST, what)
            else:
                if isinstance(found, Reply):
                    self.limiter.succeeded()
                    return found
                failure = self._clean(found)
            if failure.kind is Kind.BUSY:
                self.limiter.overloaded()
        if failure.wait_seconds is not None and failure.wait_seconds <= self._policy.patience_seconds:
            self.limiter.pause(failure.wait_seconds)
        return failure

    def _read(self, response: httpx2.Response, is_json: bool = True) -> Reply | Failure:
        if not response.is_success:
            return self._status_failure(response)
        url, key_env = self._endpoint.base_url, self._endpoint.key_env
        self._heed(response.headers)
        content = without_key(response.content, self._key)
        if not is_json:
            return Reply({}, response.elapsed.total_seconds(), 0, content=content)
        try:
            body = read_json(content)
        except UNREADABLE:
            return no_json(response.text, url)
        if not isinstance(body, dict):
            return Failure(Kind.BROKEN, f"{url} answers with JSON that is no object.")
        return failed_within(body, url, key_env) or Reply(body, response.elapsed.total_seconds(), 0)

    def _read_stream(self, found: Streamed) -> Reply | Failure:
        self._heed(found.headers)
        # A key that came in pieces is whole only here.
        body = read_json(without_key(json.dumps(found.body).encode(), self._key))
        failure = failed_within(body, self._endpoint.base_url, self._endpoint.key_env)
        return failure or Reply(body, found.seconds, 0, found.first_token_seconds)

    def _failure(self, error: openai.APIError | httpx2.HTTPError | TimeoutError) -> Failure:
        if isinstance(error, openai.APIStatusError):
            return self._status_failure(error.response)
        url = self._endpoint.base_url
        cause = _cause(error)
        if isinstance(cause, _NEVER_SENT):
            return Failure(Kind.DOUBTFUL, _unreachable(self._endpoint, cause))
        if isinstance(error, TimeoutError) or isinstance(cause, httpx2.TimeoutException):
            return Failure(Kind.LOST, f"{url} gave no answer within {self._endpoint.settings.timeout_seconds:g} s.")
        return Failure(Kind.LOST, f"{url} cut the connection before the answer was complete.")

    def _status_failure(self, response: httpx2.Response) -> Failure:
        body: object = response.text
        with contextlib.suppress(*UNREADABLE):
            body = read_json(response.content)
        found = failed(response.status_code, body, self._endpoint.base_url, self._endpoint.key_env)
        should = response.headers.get("x-should-retry")
        if found.kind is Kind.REFUSED and should == "true":
            found = replace(found, kind=Kind.BROKEN)
        elif found.kind in {Kind.BUSY, Kind.BROKEN} and should == "false":
            found = replace(found, kind=Kind.BAD)
        wait = asked_delay(response.headers)
        if wait is None and found.kind is Kind.BUSY:
            wait = exhausted_delay(response.headers)
        request_id = response.headers.get("x-request-id")
        text = f"{found.text} Request {request_id}." if request_id else found.text
        return replace(found, text=text, wait_seconds=wait if found.kind in {Kind.BUSY, Kind.BROKEN} else None)

    def _heed(self, headers: Mapping[str, str]) -> None:
        """An endpoint that says that its budget is used up need not be asked to hear it again."""
        wait = exhausted_delay(headers)
        if wait is not None and wait <= self._policy.patience_seconds:
            self.limiter.pause(wait)

    def _clean(self, failure: Failure) -> Failure:
        return replace(failure, text=redact(failure.text, self._key), said=redact(failure.said, self._key.lower()))


def _cause(error: Exception) -> BaseException | None:
    """What the transport raised: the SDK wraps it."""
    return error if isinstance(error, httpx2.HTTPError) else error.__cause__


def _unreachable(endpoint: Endpoint, cause: BaseException) -> str:
    text = str(cause).lower()
    if any(words in text for words in ("name or service", "name resolution", "nodename", "getaddrinfo")):
        return f"there is no host {endpoint.host!r}. Check base_url and the network."
    if "certificate" in text or "ssl" in text:
        return f"the certificate of {endpoint.host!r} cannot be trusted: {cause}. Nothing was sent."
    return f"{endpoint.base_url} cannot be reached: {cause}. Check that the server runs and that base_url is right."


_Ask = Callable[[Clients], Awaitable[Reply | Failure]]
_open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, Connection]] = WeakKeyDictionary()


def connect(endpoint: Endpoint, policy: Policy) -> Connection:
    """The running loop's connection to an endpoint, opened when there is none; `leave` it when done."""
    shared = _open.setdefault(asyncio.get_running_loop(), {})
    key = _identity(endpoint, policy)
    if key not in shared:
        shared[key] = Connection(endpoint, policy)
    shared[key].users += 1
    return shared[key]


async def leave(connection: Connection) -> None:
    """Give a connection back; the last user closes it."""
    connection.users -= 1
    if connection.users == 0:
        shared = _open.get(asyncio.get_running_loop(), {})
        for key in [key for key, known in shared.items() if known is connection]:
            del shared[key]
        await connection.aclose()


def _identity(endpoint: Endpoint, policy: Policy) -> object:
    settings = endpoint.settings
    return endpoint.base_url, endpoint.key_env, settings.timeout_seconds, settings.max_concurrency, policy
