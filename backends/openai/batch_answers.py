"""What the lines of a batch's output and error files mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.openai.client import Reply
from backends.openai.failures import Failure, Kind, failed, failed_within
from backends.openai.untrusted import MALFORMED, read_json

_NOT_DONE = frozenset({"batch_expired", "batch_cancelled", "request_timeout"})
"""Codes of requests that were never worked on, or not to the end: nothing is billed for them."""


def answers(content: bytes, url: str, key_env: str | None) -> dict[str, Reply | Failure]:
    """Answers by `custom_id`. Lines that cannot be read are passed over: their requests have no answer."""
    found: dict[str, Reply | Failure] = {}
    for line in content.splitlines():
        try:
            record = read_json(line)
            name = str(record["custom_id"])
        except MALFORMED:
            continue
        found[name] = _answer(record, url, key_env)
    return found


def _answer(record: Mapping[str, Any], url: str, key_env: str | None) -> Reply | Failure:
    response, error = record.get("response"), record.get("error")
    if isinstance(response, Mapping):
        return _response(response, url, key_env)
    code = str(error.get("code") or "") if isinstance(error, Mapping) else ""
    if code in _NOT_DONE or not isinstance(error, Mapping):
        return Failure(Kind.BROKEN, f"{url} did not get to the request within its batch.")
    return failed(400, {"error": error}, url, key_env)


def _response(response: Mapping[str, Any], url: str, key_env: str | None) -> Reply | Failure:
    body, status = response.get("body"), response.get("status_code")
    if isinstance(status, int) and status >= 400:
        return failed(status, body, url, key_env)
    if not isinstance(body, Mapping):
        return Failure(Kind.BROKEN, f"{url} answers within a batch with something that is no object.")
    # How long a user would wait cannot be told from a batch.
    return failed_within(body, url, key_env) or Reply(body, 0.0, 0)
