"""The connection to one endpoint, shared by all its models: sends, waits, sends again, and says what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import httpx2
import openai

from backends.errors import BackendUnavailable, RequestError
from backends.openai.endpoints import Endpoint
from backends.openai.failures import Failure, Kind, failed, failed_within, no_json
from backends.openai.limits import Limiter
from backends.openai.pools import Clients
from backends.openai.redact import redact
from backends.openai.retries import Policy, asked_delay, exhausted_delay

_OUTAGE = 8
"""So many requests in a row given up is an outage, not bad luck."""
_DOUBTS = 6
"""Attempts before a doubtful failure stops the run, where the endpoint has answered before; else it is the second."""

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, ssl.SSLError)

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the endpoint."""

    body: Mapping[str, Any]
    seconds: float
    """Wall-clock seconds of the attempt that succeeded, without waiting for a place."""
    lost: int
    """Attempts before it that may have been billed, those before the call included."""


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
        failures: list[Failure] = []
        while True:
            found = await self._attempt(path, body)
            if isinstance(found, Reply):
                self._has_answered = True
                self._given_up = 0
                return replace(found, lost=lost)
            failures.append(found)
            lost += found.kind is Kind.LOST
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
                f"{last.text} It asks to wait for {last.wait_seconds:.0f} s. Go on later with --resume."
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

    async def _attempt(self, path: str, body: Body) -> Reply | Failure:
        async with self.limiter.slot():
            client = self._clients.next(self.limiter.active)
            try:
                async with asyncio.timeout(self._endpoint.settings.timeout_seconds):
                    response = await client.post(path, cast_to=httpx2.Response, body=body)
            except (openai.APIError, TimeoutError) as error:
                failure = self._clean(self._failure(error))
            except UnicodeEncodeError:
                # From None, here and elsewhere: what the SDK raises holds the request, and the request the key.
                raise RequestError("the prompt holds half of a surrogate pair, which is no text") from None
            else:
                found = self._read(response)
                if isinstance(found, Reply):
                    self.limiter.succeeded()
                    self._heed(response.headers)
                    return found
                failure = self._clean(found)
            if failure.kind is Kind.BUSY:
                self.limiter.overloaded()
        if failure.wait_seconds is not None and failure.wait_seconds <= self._policy.patience_seconds:
            self.limiter.pause(failure.wait_seconds)
        return failure

    def _read(self, response: httpx2.Response) -> Reply | Failure:
        url, key_env = self._endpoint.base_url, self._endpoint.key_env
        try:
            body = json.loads(response.content)
        except ValueError:
            return no_json(response.text, url)
        if not isinstance(body, dict):
            return Failure(Kind.BROKEN, f"{url} answers with JSON that is no object.")
        return failed_within(body, url, key_env) or Reply(body, response.elapsed.total_seconds(), 0)

    def _failure(self, error: openai.APIError | TimeoutError) -> Failure:
        if isinstance(error, openai.APIStatusError):
            return self._status_failure(error)
        url = self._endpoint.base_url
        cause = error.__cause__
        if isinstance(error, TimeoutError) or (
            isinstance(error, openai.APITimeoutError)
            and not isinstance(cause, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        ):
            return Failure(Kind.LOST, f"{url} gave no answer within {self._endpoint.settings.timeout_seconds:g} s.")
        if isinstance(cause, _NEVER_SENT):
            return Failure(Kind.DOUBTFUL, _unreachable(self._endpoint, cause))
        return Failure(Kind.LOST, f"{url} cut the connection before the answer was complete.")

    def _status_failure(self, error: openai.APIStatusError) -> Failure:
        response = error.response
        body: object = response.text
        with contextlib.suppress(ValueError):
            body = json.loads(response.content)
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


def _unreachable(endpoint: Endpoint, cause: BaseException) -> str:
    text = str(cause).lower()
    if any(words in text for words in ("name or service", "name resolution", "nodename", "getaddrinfo")):
        return f"there is no host {endpoint.host!r}. Check base_url and the network."
    if "certificate" in text or "ssl" in text:
        return f"the certificate of {endpoint.host!r} cannot be trusted: {cause}. Nothing was sent."
    return f"{endpoint.base_url} cannot be reached: {cause}. Check that the server runs and that base_url is right."


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
