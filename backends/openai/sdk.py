"""The SDK's clients of one endpoint, over one pool of connections."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx2
import openai
from pyreqwest.client import Client, ClientBuilder

from backends.openai.endpoints import Endpoint
from backends.openai.transport import Transport

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
        self._http = [_http(endpoint)]
        self._transports = Transport(self._http[0]), Transport(self._http[0], is_streamed=True)
        self.whole, self.streamed = (_client(endpoint, key, transport) for transport in self._transports)

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


def _http(endpoint: Endpoint, keeps: int | None = None) -> Client:
    builder = ClientBuilder().connect_timeout(timedelta(seconds=_CONNECT_SECONDS))
    builder = builder.pool_idle_timeout(timedelta(seconds=_IDLE_SECONDS))
    builder = builder if keeps is None else builder.pool_max_idle_per_host(keeps)
    # A redirect would carry prompts to an address that nobody chose. What is compressed httpx2 unpacks.
    builder = builder.follow_redirects(False).referer(False).gzip(False).brotli(False).zstd(False).deflate(False)
    # A proxy cannot reach this machine's own loopback.
    return (builder.no_proxy() if endpoint.is_loopback else builder).build()


def _client(endpoint: Endpoint, key: str, transport: Transport) -> openai.AsyncOpenAI:
    seconds = endpoint.settings.timeout_seconds
    http = httpx2.AsyncClient(transport=transport, timeout=seconds, follow_redirects=False, trust_env=False)
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
