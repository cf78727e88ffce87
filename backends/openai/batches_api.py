"""Batches as the OpenAI protocol writes them, and the files they are made of; nothing here decides anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

import httpx2

from backends.openai.jobs_api import JobsApi, Json

_BATCHES = "/batches"
_WINDOW = "24h"
_A_PAGE = 100
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""Statuses that do not change any more."""


class BatchesApi(JobsApi):
    """Use as `async with`; raises as JobsApi does."""

    purpose: Literal["fine-tune", "batch"] = "batch"

    @property
    def place(self) -> str:
        """The endpoint's address."""
        return self._endpoint.base_url

    async def begin(self, file_id: str, path: str, metadata: Mapping[str, str]) -> Json:
        """Create a batch of the requests of a file, which all go to `path`."""
        body = {
            "input_file_id": file_id,
            "endpoint": f"/v1{path}",
            "completion_window": _WINDOW,
            "metadata": dict(metadata),
        }
        return await self._call(lambda sdk: sdk.post(_BATCHES, cast_to=httpx2.Response, body=body), is_repeatable=False)

    async def batch(self, batch_id: str) -> Json:
        """A batch as it stands."""
        return await self._get(f"{_BATCHES}/{quote(batch_id)}")

    async def batches(self) -> list[Json]:
        """The account's batches, newest first."""
        return await self._pages(_BATCHES, {}, _A_PAGE)


def lines_of(found: Mapping[str, Any]) -> int:
    """Requests of a batch that are answered or failed."""
    counts = found.get("request_counts")
    if not isinstance(counts, Mapping):
        return 0
    return sum(value for name in ("completed", "failed") if isinstance(value := counts.get(name), int))
