"""Files and fine-tuning jobs as the OpenAI protocol writes them; nothing here decides anything."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx2
import openai

from backends.openai import client
from backends.openai.endpoints import Endpoint
from backends.openai.failures import Failure, Kind
from backends.openai.redact import redact
from backends.openai.retries import Policy

Json = dict[str, Any]
_JOBS = "/fine_tuning/jobs"
_MOST_PAGES = 20
_JOBS_A_PAGE = 100
_FILES_A_PAGE = 1000


class Missing(Exception):
    """The endpoint has no such path, or nothing of that id."""


class Closed(Exception):
    """The endpoint creates no more fine-tuning jobs for this account."""


class JobsApi:
    """Use as `async with`. Calls raise Missing, and what `Connection.call` raises.

    All but `create` and `upload` may be done twice; those raise GaveUp when nobody knows whether they were done.
    """

    purpose: Literal["fine-tune", "batch"] = "fine-tune"
    """What its files are for."""

    def __init__(self, endpoint: Endpoint, policy: Policy | None = None) -> None:
        self._endpoint = endpoint
        self._policy = policy or Policy()

    async def __aenter__(self) -> Self:
        self._connection = client.connect(self._endpoint, self._policy)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await client.leave(self._connection)

    def clean(self, text: object) -> str:
        """What the endpoint said, in one line and without keys."""
        return redact(str(text or ""), self._endpoint.key())

    async def upload(self, name: str, content: bytes) -> Json:
        """Upload a training file; its id is in the answer."""

        async def send(sdk: openai.AsyncOpenAI) -> httpx2.Response:
            # The SDK takes the form of the multipart body from its own method.
            raw = await sdk.files.with_raw_response.create(file=(name, content), purpose=self.purpose)
            return raw.http_response

        return await self._call(send, is_repeatable=False)

    async def file(self, file_id: str) -> Json:
        """What is known of an uploaded file."""
        return await self._get(f"/files/{quote(file_id)}")

    async def files(self) -> list[Json]:
        """All training files of the account."""
        return await self._pages("/files", {"purpose": self.purpose}, _FILES_A_PAGE)

    async def content(self, file_id: str) -> bytes:
        """A file's content."""

        async def send(sdk: openai.AsyncOpenAI) -> httpx2.Response:
            headers = {"Accept": "application/binary"}
            path = f"/files/{quote(file_id)}/content"
            return await _told(sdk.get(path, cast_to=httpx2.Response, options={"headers": headers}), self.clean)

        return (await self._connection.call(send, is_json=False)).content

    async def delete(self, file_id: str) -> None:
        """Delete an uploaded file; one that is gone is no error."""
        try:
            await self._call(lambda sdk: sdk.delete(f"/files/{quote(file_id)}", cast_to=httpx2.Response))
        except Missing:
            return

    async def create(self, body: Mapping[str, Any]) -> Json:
        """Create a job; raises Closed where that is not possible any more."""
        return await self._call(lambda sdk: sdk.post(_JOBS, cast_to=httpx2.Response, body=body), is_repeatable=False)

    async def jobs(self, metadata: Mapping[str, str]) -> list[Json]:
        """The jobs with these metadata, newest first; of an endpoint that knows no such filter, all jobs."""
        try:
            wanted = {f"metadata[{name}]": value for name, value in metadata.items()}
            return await self._pages(_JOBS, wanted, _JOBS_A_PAGE)
        except client.Refused:
            return await self._pages(_JOBS, {}, _JOBS_A_PAGE)

    async def job(self, job_id: str) -> Json:
        """A job as it stands."""
        return await self._get(f"{_JOBS}/{quote(job_id)}")

    async def cancel(self, job_id: str) -> Json:
        """End a job."""
        return await self._call(lambda sdk: sdk.post(f"{_JOBS}/{quote(job_id)}/cancel", cast_to=httpx2.Response))

    async def events(self, job_id: str, limit: int = 50) -> list[Json]:
        """What happened in a job, the latest first."""
        return _rows(await self._get(f"{_JOBS}/{quote(job_id)}/events", {"limit": limit}))

    async def checkpoints(self, job_id: str) -> list[Json]:
        """The states of the model that a job kept, all of them."""
        return await self._pages(f"{_JOBS}/{quote(job_id)}/checkpoints", {}, _JOBS_A_PAGE)

    async def model(self, model: str) -> Json:
        """What is known of a model."""
        return await self._get(f"/models/{quote(model, safe='/:')}")

    async def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Json:
        return await self._call(
            lambda sdk: sdk.get(path, cast_to=httpx2.Response, options={"params": dict(query or {})})
        )

    async def _pages(self, path: str, query: Mapping[str, Any], each: int) -> list[Json]:
        found: list[Json] = []
        after: dict[str, str] = {}
        for _ in range(_MOST_PAGES):
            page = await self._get(path, {**query, "limit": each, **after})
            # Some servers know no `after` and send the first page again.
            rows = [row for row in _rows(page) if row not in found]
            found += rows
            if not rows or not page.get("has_more") or not rows[-1].get("id"):
                break
            after = {"after": str(rows[-1]["id"])}
        return found

    async def _call(self, send: client.Send, *, is_repeatable: bool = True) -> Json:
        reply = await self._connection.call(lambda sdk: _told(send(sdk), self.clean), is_repeatable=is_repeatable)
        return dict(reply.body)


async def _told(answer: Any, clean: Any) -> httpx2.Response:
    """The answer; two refusals mean more for jobs than they do for answers."""
    try:
        response: httpx2.Response = await answer
    except openai.NotFoundError as error:
        # From None: what the SDK raises holds the request, and the request the key.
        raise Missing(clean(error.message)) from None
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        # Whatever is wrong with a file or a job is wrong with this one, also an unknown model.
        said = f"{clean(error.message)} {error.param or ''}".strip()
        raise client.Refused(Failure(Kind.REFUSED, clean(_message(error)), said.lower()), 0) from None
    except openai.PermissionDeniedError as error:
        if error.code == "training_not_available":
            raise Closed(clean(error.message)) from None
        raise
    return response


def _message(error: openai.APIStatusError) -> str:
    """What the endpoint says is wrong, without the SDK's words around it."""
    body = error.body
    return str(body.get("message") or error.message) if isinstance(body, dict) else error.message


def _rows(page: Mapping[str, Any]) -> list[Json]:
    """The rows of a page; some servers write null for none."""
    rows = page.get("data")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
