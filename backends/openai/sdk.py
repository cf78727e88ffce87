"""The SDK's clients of one endpoint, over one pool of connections, and a short way for what is sent most."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx2
import openai
from pyreqwest.client import Client, ClientBuilder

from backends.openai.endpoints import Endpoint
from backends.openai.transport import Headers, Transport

_LOG = logging.getLogger(__name__)
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 4.0
"""uvicorn and Node.js close what has been idle for 5 s: a request sent at that moment is lost, and may be billed."""
_UNTOLD: Mapping[str, Any] = {
    f"X-Stainless-{name}": openai.Omit()
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
}
"""What the SDK would tell every endpoint of this machine, seven headers a request."""


class Clients:
    """Two clients that share their connections: for whole answers, and for such as come in pieces."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self._endpoint = endpoint
        self._key = key
        self._http = [_http(endpoint)]
        self._transports = Transport(self._http[0]), Transport(self._http[0], is_streamed=True)
        self.whole, self.streamed = (_client(endpoint, key, transport) for transport in self._transports)
        self._envelopes: dict[str, tuple[str, Headers]] = {}

    async def post(self, path: str, body: Mapping[str, Any]) -> httpx2.Response:
        """Send JSON as `whole.post` would, and give the answer as it came, whatever its status. Raises httpx2's errors.

        Address and headers are the SDK's, written once for each path: to write them anew took half of what a call cost
        (docs/log.md has the figures). `elapsed` is the time of sending, waiting and reading.
        """
        if path not in self._envelopes:
            self._envelopes[path] = _envelope(self._endpoint, self._key, path)
        url, headers = self._envelopes[path]
        content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        seconds, begun = self._endpoint.settings.timeout_seconds, time.perf_counter()
        response = await self._transports[0].send("POST", url, headers, content, seconds)
        await response.aread()
        response.elapsed = timedelta(seconds=time.perf_counter() - begun)
        _LOG.debug("POST %s: %d, request %s", path, response.status_code, response.headers.get("x-request-id"))
        return response

    def keep_no_connections(self) -> None:
        """Open a connection for every request from now on: the endpoint closes those that wait for the next one."""
        if len(self._http) > 1:
            return
        self._http.append(_http(self._endpoint, keeps=0))
        for transport in self._transports:
            transport.client = self._http[-1]

    async def aclose(self) -> None:
        """Close all connections."""
        await self.whole.close()
        await self.streamed.close()
        for http in self._http:
            await http.close()


class _Written(Exception):
    """Says what the SDK would send, in place of sending it."""

    def __init__(self, request: httpx2.Request) -> None:
        super().__init__()
        self.request = request


def _envelope(endpoint: Endpoint, key: str, path: str) -> tuple[str, Headers]:
    """Address and headers of a request with JSON. Nothing is waited for, so that a crowd has it written once."""

    def tell(request: httpx2.Request) -> httpx2.Response:
        raise _Written(request)

    seconds = endpoint.settings.timeout_seconds
    http = httpx2.Client(transport=httpx2.MockTransport(tell), timeout=seconds, trust_env=False)
    with openai.OpenAI(**_told(endpoint, key), http_client=http) as client:
        _forget_openai(client, endpoint)
        try:
            client.post(path, cast_to=httpx2.Response, body={})
        except _Written as written:
            request = written.request
    # The length is the body's, and reqwest tells it.
    headers = [(name, value) for name, value in request.headers.multi_items() if name != "content-length"]
    return str(request.url), headers


def _http(endpoint: Endpoint, keeps: int | None = None) -> Client:
    builder = ClientBuilder().connect_timeout(timedelta(seconds=_CONNECT_SECONDS))
    builder = builder.pool_idle_timeout(timedelta(seconds=_IDLE_SECONDS))
    builder = builder if keeps is None else builder.pool_max_idle_per_host(keeps)
    # A redirect would carry prompts to an address that nobody chose. What is compressed httpx2 unpacks.
    builder = builder.follow_redirects(False).referer(False).gzip(False).brotli(False).zstd(False).deflate(False)
    # Cookies tell a load balancer which server has the prompts in its cache.
    builder = builder.default_cookie_store(True)
    # A proxy cannot reach this machine's own loopback.
    return (builder.no_proxy() if endpoint.is_loopback else builder).build()


def _client(endpoint: Endpoint, key: str, transport: Transport) -> openai.AsyncOpenAI:
    seconds = endpoint.settings.timeout_seconds
    http = httpx2.AsyncClient(transport=transport, timeout=seconds, follow_redirects=False, trust_env=False)
    client = openai.AsyncOpenAI(**_told(endpoint, key), http_client=http)
    _forget_openai(client, endpoint)
    return client


def _told(endpoint: Endpoint, key: str) -> dict[str, Any]:
    """What the SDK's clients are told of an endpoint. Servers without keys want none; the SDK wants one."""
    return {"api_key": key or "none", "base_url": endpoint.base_url, "max_retries": 0, "default_headers": _UNTOLD}


def _forget_openai(client: openai.OpenAI | openai.AsyncOpenAI, endpoint: Endpoint) -> None:
    """The SDK takes more from the environment, which is OpenAI's business only."""
    if not endpoint.is_openai:
        client.organization = client.project = client.admin_api_key = None
