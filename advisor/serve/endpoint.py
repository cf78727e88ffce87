"""The HTTP endpoint: two routes of the OpenAI protocol, a health check, and who may use them."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from advisor.serve.served import Served
from advisor.serve.wire import chat_request, completion, events, failure, model_list, parse
from backends.errors import AdvisorError, RequestError

_LARGEST_BODY = 8 * 2**20
_LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]


class Endpoint:
    """Answers for one or more models. `key` is what clients must show, None where none is asked for."""

    def __init__(self, served: Sequence[Served], key: str | None = None) -> None:
        self._served = {one.name: one for one in served}
        self._key = key
        self._started = int(time.time())

    def application(self, *, local_only: bool) -> Starlette:
        """The ASGI application; `local_only` refuses requests that were addressed to another host name.

        A web page can reach a loopback port through a name of its own (DNS rebinding), but not under the right name.
        """
        hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL_HOSTS)] if local_only else []
        routes = [
            Route("/health", self._health),
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
        ]
        return Starlette(routes=routes, middleware=hosts, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        for one in self._served.values():
            await one.aclose()

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _models(self, request: Request) -> Response:
        return self._stranger(request) or JSONResponse(model_list(list(self._served), self._started))

    async def _complete(self, request: Request) -> Response:
        refused = self._stranger(request)
        if refused is not None:
            return refused
        # Read in pieces: the length that a client states may be wrong, or missing.
        posted = bytearray()
        async for piece in request.stream():
            posted += piece
            if len(posted) > _LARGEST_BODY:
                return _wrong(413, f"the body is larger than {_LARGEST_BODY} bytes", "invalid_request_error")
        try:
            return await self._answer(bytes(posted))
        except RequestError as error:
            return _wrong(400, str(error), "invalid_request_error")
        except AdvisorError as error:
            return _wrong(503, str(error), "server_error")

    async def _answer(self, posted: bytes) -> Response:
        body = parse(posted)
        served = self._served.get(body.model)
        if served is None:
            known = ", ".join(self._served)
            return _wrong(
                404, f"there is no model {body.model!r}; there is {known}", "invalid_request_error", "model_not_found"
            )
        response = await served.answer(chat_request(body))
        name, created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        if body.stream:
            return StreamingResponse(events(name, created, body, response), media_type="text/event-stream")
        return JSONResponse(completion(name, created, body.model, response))

    def _stranger(self, request: Request) -> Response | None:
        """What a client without the key is told; None for one that may come in."""
        if self._key is None:
            return None
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if secrets.compare_digest(shown.encode(), self._key.encode()):
            return None
        return _wrong(401, "the key is missing or wrong", "invalid_request_error", "invalid_api_key")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong(status: int, message: str, kind: str, code: str | None = None) -> JSONResponse:
    found: dict[str, Any] = failure(message, kind, code)
    return JSONResponse(found, status_code=status)
