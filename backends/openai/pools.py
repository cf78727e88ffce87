"""The SDK's clients of one endpoint, several so that many requests at once do not wade through one pool.

httpcore looks at every connection of a pool for every request, which at 200 connections takes longer than all the rest
of a call; with a few in each it does not show.
"""

from __future__ import annotations

import functools
import itertools
import ssl
from collections.abc import Mapping
from typing import Any

import httpx2
import openai

from backends.errors import BackendUnavailable
from backends.openai.endpoints import Endpoint

_EACH = 4
"""Requests under way for which another client is opened."""
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 4.0
"""uvicorn and Node.js close what has been idle for 5 s: a request sent at that moment is lost, and may be billed."""
_UNTOLD: Mapping[str, Any] = {
    f"X-Stainless-{name}": openai.Omit()
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
}
"""What the SDK would tell every endpoint of this machine, seven headers a request."""


class Clients:
    """Opens clients as more requests are under way and uses them in turn."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self._endpoint = endpoint
        self._key = key
        self._tls = _tls()
        self._open: list[openai.AsyncOpenAI] = []
        self._turns = itertools.count()

    def next(self, active: int) -> openai.AsyncOpenAI:
        """The client for the next request, when so many are under way."""
        if active > _EACH * len(self._open):
            self._open.append(_client(self._endpoint, self._key, self._http()))
        return self._open[next(self._turns) % len(self._open)]

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._open:
            await client.close()
        self._open.clear()

    def _http(self) -> httpx2.AsyncClient:
        most = self._endpoint.settings.max_concurrency
        try:
            return httpx2.AsyncClient(
                verify=self._tls,
                limits=httpx2.Limits(
                    max_connections=most, max_keepalive_connections=most, keepalive_expiry=_IDLE_SECONDS
                ),
                timeout=httpx2.Timeout(self._endpoint.settings.timeout_seconds, connect=_CONNECT_SECONDS, pool=None),
                # A redirect would carry prompts to an address that nobody chose.
                follow_redirects=False,
                # A proxy cannot reach this machine's own loopback.
                trust_env=not self._endpoint.is_loopback,
            )
        except ImportError:
            what = "the environment names a SOCKS proxy, for which a package is missing."
            raise BackendUnavailable(f"{what} Install it: pip install socksio. Or unset ALL_PROXY.") from None


@functools.cache
def _tls() -> ssl.SSLContext:
    """Read once: the certificates of a machine take longer than many a request."""
    return httpx2.create_ssl_context()


def _client(endpoint: Endpoint, key: str, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    # Servers without keys want none; the SDK wants one.
    client = openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=endpoint.base_url,
        max_retries=0,
        http_client=http,
        default_headers=_UNTOLD,
    )
    if not endpoint.is_openai:
        # The SDK takes them from the environment; they are OpenAI's business only.
        client.organization = client.project = client.admin_api_key = None
    return client
