"""The SDK's client of one endpoint, over aiohttp, and which of its failures mean that nothing was sent.

Over aiohttp, which the SDK offers, a call takes two thirds of the time it takes over httpx2's own transport, whose pool
looks at every connection for every request. aiohttp never sends a POST a second time by itself.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx2
import openai

from backends.openai.endpoints import Endpoint

_CONNECT_SECONDS = 10.0
_UNTOLD: Mapping[str, Any] = {
    f"X-Stainless-{name}": openai.Omit()
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
}
"""What the SDK would tell every endpoint of this machine, seven headers a request."""
_NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)


def open_client(endpoint: Endpoint, key: str) -> openai.AsyncOpenAI:
    """A client that neither repeats nor follows anything by itself; belongs to the running event loop."""
    most = endpoint.settings.max_concurrency
    http = openai.DefaultAioHttpClient(
        verify=_tls(),
        limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
        # How long an answer may take, in all, is the connection's business.
        timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
        # A redirect would carry prompts to an address that nobody chose.
        follow_redirects=False,
        # A proxy cannot reach this machine's own loopback.
        trust_env=not endpoint.is_loopback,
    )
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


def never_sent(error: openai.APIError, endpoint: Endpoint) -> str | None:
    """Why a request was never sent, None where it may have been.

    Asked of aiohttp's own exception: the SDK's and httpx2's that stand before it call a connection that broke within
    a request a timeout of connecting.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, _NEVER_SENT):
        cause = cause.__cause__
    if cause is None:
        return None
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return f"there is no host {endpoint.host!r}. Check base_url and the network."
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return f"the certificate of {endpoint.host!r} cannot be trusted: {cause.certificate_error}. Nothing was sent."
    return f"{endpoint.base_url} cannot be reached: {_reason(cause)}. Check that the server runs and base_url is right."


def _reason(cause: BaseException) -> str:
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return f"the proxy answers {cause.status} {cause.message}"
    return str(cause.os_error if isinstance(cause, aiohttp.ClientConnectorError) else cause)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Read once: the certificates of a machine take longer than many a request."""
    return httpx2.create_ssl_context()
