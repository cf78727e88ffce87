"""Gathers the chat requests of one model into batches and waits for them, in place of sending them one by one.

Requests are gathered until none arrives for a moment; what a technique asks in several steps makes several batches.
A batch goes on when this process is gone: the journal knows it, and the same request asked again later gets its answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from backends.batching import Batching, BatchProgress
from backends.errors import BackendUnavailable, InputError, Problem
from backends.openai.batch_answers import answers
from backends.openai.batch_journal import Entry, Journal
from backends.openai.batch_submission import found, submitted, tidied
from backends.openai.batches_api import ENDED, BatchesApi, lines_of
from backends.openai.client import Body, GaveUp, Refused, Reply
from backends.openai.endpoints import Endpoint
from backends.openai.failures import Failure, Kind
from backends.openai.jobs_api import Missing
from backends.openai.pace import Pace
from backends.openai.retries import Policy

_PATH = "/chat/completions"
_MOST_LINES = 50_000
_MOST_BYTES = 150_000_000
"""OpenAI takes 50,000 requests and 200 MB in one batch."""
_ATTEMPTS = 3
"""Batches in which a request is tried before it has failed."""
_OUTAGES = 20
"""Looks at a batch in a row that may fail: some ten minutes, beside the tries of each look."""

Answer = Reply | Failure


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that waits for its batch."""

    name: str
    line: bytes
    answer: asyncio.Future[Answer]


class Batches:
    """The batches of one model. `post` may be called by many at once; belongs to one event loop."""

    def __init__(self, endpoint: Endpoint, model: str, batching: Batching, policy: Policy) -> None:
        self._endpoint = endpoint
        self._model = model
        self._batching = batching
        self._pace = Pace(*batching.look_seconds)
        self._api = BatchesApi(endpoint, policy)
        self._journal = Journal(batching.folder, f"{endpoint.base_url} {_PATH} {model}")
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._is_open = False
        self._pending: list[_Asked] = []
        self._left: dict[str, list[Entry]] = defaultdict(list)
        """Name of a request -> batches of earlier sittings that hold it and were not asked for it yet."""
        self._following: dict[str, asyncio.Task[Mapping[str, Answer]]] = {}
        """Nonce -> its answers, once they are there."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._gathering: asyncio.Task[None] | None = None

    async def post(self, body: Body, repeat: int = 0) -> Reply:
        """Answer a request; raises as Connection.post does, and InputError where the endpoint takes no batches.

        `repeat` tells requests apart that are equal otherwise and are each to be answered.
        """
        await self._open()
        text = json.dumps(body, ensure_ascii=False, sort_keys=True)
        name = hashlib.sha256(f"{repeat}\n{text}".encode()).hexdigest()[:48]
        failure = None
        for _ in range(_ATTEMPTS):
            answer = await self._answer(name, text)
            if isinstance(answer, Reply):
                return answer
            failure = answer
            if failure.kind is Kind.REFUSED:
                raise Refused(failure, 0)
            if failure.kind is Kind.BAD:
                raise GaveUp(failure.text, 0)
            if failure.kind in {Kind.DOUBTFUL, Kind.FATAL}:
                raise BackendUnavailable(failure.text)
            if failure.kind is Kind.LOST:
                raise GaveUp(failure.text, 1)
        raise GaveUp(f"{failure and failure.text} Given up after {_ATTEMPTS} batches.", 0)

    async def aclose(self) -> None:
        """Stop waiting. Batches that were sent go on, and the next sitting finds them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def _open(self) -> None:
        """Look what earlier sittings left, once."""
        async with self._opening:
            if self._is_open:
                return
            await self._stack.enter_async_context(self._api)
            for entry in list(self._journal.entries()):
                await self._remember(entry)
            self._is_open = True

    async def _remember(self, entry: Entry) -> None:
        batch = await found(self._api, entry)
        if batch is None:
            # Nothing of it was ever worked on: who still wants its answers asks again.
            self._journal.forget(entry)
            await tidied(self._api, entry.file)
            return
        entry = entry if entry.batch == batch else self._journal.change(entry, batch=batch)
        for name in entry.names:
            self._left[name].append(entry)

    async def _answer(self, name: str, text: str) -> Answer:
        if self._left[name]:
            known = await self._followed(self._left[name].pop(0))
            return known.get(name) or _missing(self._endpoint)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending.append(_Asked(name, _line(name, text), answer))
        if self._gathering is None or self._gathering.done():
            self._gathering = self._start(self._gather())
        return await answer

    async def _gather(self) -> None:
        """Send what waits, as soon as nothing new arrives."""
        while self._pending:
            before = -1
            while before != len(self._pending):
                before = len(self._pending)
                await asyncio.sleep(self._batching.quiet_seconds)
            for batch in _portions(self._pending):
                self._start(self._serve(batch))
            self._pending = []

    async def _serve(self, asked: list[_Asked]) -> None:
        """Send one batch and answer those who wait for it."""
        by_name = {one.name: one for one in asked if not one.answer.done()}
        try:
            entry = self._journal.begin(list(by_name), b"".join(one.line for one in by_name.values()))
            self._tell(len(by_name), 0, "uploading")
            entry = await submitted(self._api, self._journal, entry, _PATH, self._pace)
            known = await self._followed(entry)
        except BaseException as error:
            for one in asked:
                _fail(one.answer, error)
            raise
        for one in asked:
            if not one.answer.done():
                one.answer.set_result(known.get(one.name) or _missing(self._endpoint))

    async def _followed(self, entry: Entry) -> Mapping[str, Answer]:
        """The answers of a batch, waited for once for all who want some of them."""
        if entry.nonce not in self._following:
            self._following[entry.nonce] = self._start(self._follow(entry))
        # Shielded: one who is cancelled must not stop the others' waiting.
        return await asyncio.shield(self._following[entry.nonce])

    async def _follow(self, entry: Entry) -> Mapping[str, Answer]:
        batch: Mapping[str, Any] = {}
        if not entry.ended:
            batch = await self._ended(entry)
            entry = await self._collect(entry, batch)
        known = answers(self._journal.answers(entry), self._endpoint.base_url, self._endpoint.key_env)
        if batch.get("status") != "cancelled":
            return known
        # Somebody wanted it to end: what is missing waits for the next sitting.
        text = f"the batch {entry.batch} was cancelled at the endpoint. Go on with --resume: what is missing is sent."
        done = {name: answer for name, answer in known.items() if isinstance(answer, Reply)}
        return {**dict.fromkeys(entry.names, Failure(Kind.FATAL, text)), **done}

    async def _ended(self, entry: Entry) -> Mapping[str, Any]:
        """The batch when it does not change any more."""
        looks = outages = 0
        while True:
            try:
                batch = await self._api.batch(str(entry.batch))
                outages = 0
            except (GaveUp, BackendUnavailable) as error:
                outages += 1
                if outages > _OUTAGES:
                    text = f"the batch {entry.batch} cannot be looked at: {error} It goes on; so does --resume."
                    raise BackendUnavailable(text) from None
            except (Missing, Refused) as error:
                self._journal.forget(entry)
                text = f"the batch {entry.batch} is gone: {error} Go on with --resume: it is sent again."
                raise BackendUnavailable(text) from None
            else:
                status = str(batch.get("status") or "unknown")
                self._tell(len(entry.names), lines_of(batch), status)
                if status in ENDED:
                    return batch
            await asyncio.sleep(self._pace.after(looks))
            looks += 1

    async def _collect(self, entry: Entry, batch: Mapping[str, Any]) -> Entry:
        """Fetch the answers of a batch that has ended; raises InputError when it was refused as a whole."""
        if batch.get("status") == "failed":
            self._journal.forget(entry)
            await tidied(self._api, entry.file)
            what = f"{self._endpoint.base_url} refused the batch {entry.batch}: {self._api.clean(_why(batch))}"
            remedy = "Correct what it names, or leave out --batch; nothing was billed for it."
            raise InputError(Problem("--batch", what, remedy))
        files = [batch.get(name) for name in ("output_file_id", "error_file_id")]
        parts = [await self._content(str(file_id)) for file_id in files if file_id]
        entry = self._journal.end(entry, b"\n".join(parts))
        await tidied(self._api, entry.file, *files)
        return entry

    async def _content(self, file_id: str) -> bytes:
        try:
            return await self._api.content(file_id)
        except (Missing, Refused, GaveUp) as error:
            text = f"the answers of a batch ({file_id}) cannot be fetched: {error} Go on later with --resume."
            raise BackendUnavailable(text) from None

    def _tell(self, requests: int, done: int, status: str) -> None:
        name = f"{self._endpoint.name}/{self._model}"
        self._batching.observe(BatchProgress(name, requests, done, status))

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # mark as seen: those who waited were told


def _line(name: str, text: str) -> bytes:
    record = {"custom_id": name, "method": "POST", "url": f"/v1{_PATH}", "body": json.loads(text)}
    return json.dumps(record).encode() + b"\n"


def _portions(asked: Iterable[_Asked]) -> list[list[_Asked]]:
    """Requests in groups that an endpoint takes in one batch each."""
    groups: list[list[_Asked]] = []
    size = 0
    for one in asked:
        if not groups or len(groups[-1]) >= _MOST_LINES or size + len(one.line) > _MOST_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(one)
        size += len(one.line)
    return groups


def _missing(endpoint: Endpoint) -> Failure:
    return Failure(Kind.BROKEN, f"{endpoint.base_url} left the request out of the answers of its batch.")


def _why(batch: Mapping[str, Any]) -> str:
    errors = batch.get("errors")
    rows = errors.get("data") if isinstance(errors, Mapping) else None
    said = [str(row.get("message")) for row in rows or () if isinstance(row, Mapping)]
    return " ".join(said) or "it does not say why."


def _fail(answer: asyncio.Future[Answer], error: BaseException) -> None:
    if answer.done():
        return
    if isinstance(error, Exception):
        answer.set_exception(error)
        answer.exception()  # mark as seen: who waited may be gone
    else:
        answer.cancel()
