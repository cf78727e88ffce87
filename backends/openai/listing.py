"""The models that an endpoint says it has, asked of `/v1/models`, with the dates on which they stop if it tells."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any

import httpx2

from backends.errors import BackendUnavailable, RequestError
from backends.openai import client
from backends.openai.endpoints import Endpoint
from backends.openai.retries import Policy

_POLICY = Policy(attempts=2, patience_seconds=5.0)
"""Somebody waits for a table."""
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as its endpoint lists it."""

    name: str
    """Without the endpoint's prefix."""
    shutdown: date | None
    """`shutdown_date`, None where the endpoint names none."""
    context: int | None
    """Tokens that a prompt and its answer have room for, where the endpoint says it (vLLM's `max_model_len`)."""


def listed(endpoint: Endpoint) -> tuple[Listed, ...]:
    """All models of an endpoint, in its order. Raises BackendUnavailable when it does not tell."""
    return asyncio.run(_ask(endpoint))


async def _ask(endpoint: Endpoint) -> tuple[Listed, ...]:
    connection = client.connect(endpoint, _POLICY)
    try:
        async with asyncio.timeout(_SECONDS):
            reply = await connection.call(lambda sdk: sdk.get("/models", cast_to=httpx2.Response))
    except (client.Refused, client.GaveUp, RequestError) as error:
        raise BackendUnavailable(str(error)) from None
    except TimeoutError:
        raise BackendUnavailable(f"{endpoint.base_url} gave no list of models within {_SECONDS:g} s.") from None
    finally:
        await client.leave(connection)
    rows = reply.body.get("data")
    found = rows if isinstance(rows, list) else ()
    return tuple(_listed(row) for row in found if isinstance(row, dict) and row.get("id"))


def _listed(row: dict[str, Any]) -> Listed:
    length = row.get("max_model_len")
    return Listed(str(row["id"]), _day(row.get("shutdown_date")), length if isinstance(length, int) else None)


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None
