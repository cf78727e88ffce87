"""An embedding model behind an endpoint that speaks the OpenAI protocol."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backends.errors import InputError, RequestError
from backends.openai import client
from backends.openai.capabilities import Search, memory_of
from backends.openai.endpoints import Endpoint, find, identity, key_problem
from backends.openai.failures import BilledError
from backends.openai.prices import prices, spends_money
from backends.openai.retries import Policy
from backends.openai.tokens import bound, count_text
from backends.openai.untrusted import MALFORMED
from backends.openai.wire import MOST_TOKENS
from backends.types import Embeddings, FloatArray, Message, Usage

_VERSION = 1
_BATCH = 256
"""Texts in one request; OpenAI takes 2,048 and 300,000 tokens in all."""
_BATCH_CHARACTERS = 200_000


class OpenAIEmbedder:
    """Implements Embedder. Vectors are made of length one; all must have the dimension of the first."""

    def __init__(self, name: str, endpoint: Endpoint, model: str, *, policy: Policy | None = None) -> None:
        self._name = name
        self._endpoint = endpoint
        self._model = model
        self._policy = policy or Policy()
        self._prices = prices(endpoint, model)
        self._memory = memory_of(endpoint, model)
        self._connection: client.Connection | None = None
        self._dimension: int | None = None

    @classmethod
    def open(cls, name: str, *, usd_per_hour: float | None = None) -> OpenAIEmbedder:
        """Open `openai/NAME` or `ENDPOINT/NAME`. Raises InputError when it cannot be used."""
        endpoint, model = find(name)
        problem = key_problem(name, endpoint)
        if problem is not None:
            raise InputError(problem)
        return cls(name, endpoint, model)

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._name!r})"

    @property
    def name(self) -> str:
        """`endpoint/model`, as the user wrote it."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Hash of address, model name, fixed parameters and the version of this backend."""
        return hashlib.sha256(f"embed {_VERSION}\n{identity(self._endpoint, self._model)}".encode()).hexdigest()[:32]

    @property
    def billed(self) -> bool:
        """Whether requests spend money that leaves the house; see `spends_money`."""
        return spends_money(self._endpoint, self._prices)

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage, None when the price is not known."""
        return None if self._prices is None else self._prices.cost(usage)

    def worst_case(self, texts: Sequence[str]) -> Usage:
        """The tokens of the texts, as often as they may be billed."""
        times = 1 + self._policy.lost
        batches = _batches(texts)
        tokens = sum(self._most_tokens(batch) for batch in batches)
        usage = Usage(len(batches) * times, tokens * times)
        return replace(usage, cost_usd=self.price(usage))

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed the texts, in order, some hundred in a request."""
        usage, seconds, rows = Usage(cost_usd=0.0), 0.0, []
        for batch in _batches(texts):
            reply = await self._ask(batch, usage)
            usage += self._usage(reply, batch)
            rows.append(self._vectors(reply.body, len(batch), usage))
            seconds += reply.seconds
        dimension = self._dimension or 0
        vectors = np.concatenate(rows) if rows else np.zeros((0, dimension), np.float32)
        return Embeddings(vectors, usage, seconds)

    async def aclose(self) -> None:
        """Close the connection unless other models use it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await client.leave(connection)

    async def _ask(self, batch: Sequence[str], spent: Usage) -> client.Reply:
        """Send one batch; errors carry what was spent before it."""
        if self._connection is None:
            self._connection = client.connect(self._endpoint, self._policy)
        search = Search(self._memory.refused)
        lost = 0
        while True:
            sent = [] if "encoding_format" in search.without else ["encoding_format"]
            extra = {"encoding_format": "base64"} if sent else {}
            try:
                body = {"model": self._model, "input": list(batch), **extra}
                reply = await self._connection.post("/embeddings", body, lost)
            except client.Refused as refusal:
                lost = refusal.lost
                if not search.refused(refusal.failure, sent):
                    raise self._error(str(search.failure and search.failure.text), batch, lost, spent) from None
            except client.GaveUp as failure:
                raise self._error(str(failure), batch, failure.lost, spent) from None
            else:
                self._memory.learn(search.found)
                return reply

    def _vectors(self, body: Mapping[str, Any], wanted: int, spent: Usage) -> FloatArray:
        try:
            ordered = sorted(body["data"], key=lambda row: int(row.get("index", 0)))
            vectors = [_vector(row["embedding"]) for row in ordered]
            return self._checked(vectors, wanted)
        except _WrongVectors as error:
            raise BilledError(f"{self._name} {error}", spent) from None
        except MALFORMED:
            raise BilledError(f"{self._name} answered something that is no embedding", spent) from None

    def _checked(self, vectors: list[FloatArray], wanted: int) -> FloatArray:
        if len(vectors) != wanted:
            raise _WrongVectors(f"gave {len(vectors)} vectors for {wanted} texts")
        if any(vector.ndim != 1 for vector in vectors):
            raise _WrongVectors("gives a vector for each token: start its server with pooling")
        dimension = self._dimension or len(vectors[0])
        if any(len(vector) != dimension for vector in vectors):
            sizes = sorted({len(vector) for vector in vectors} | {dimension})
            raise _WrongVectors(f"gives vectors of different dimensions: {sizes}")
        stacked = np.stack(vectors)
        lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
        if not np.isfinite(stacked).all() or not (lengths > 0).all():
            raise _WrongVectors("gave a vector without length or with numbers that are none")
        self._dimension = dimension
        return np.ascontiguousarray(stacked / lengths, dtype=np.float32)

    def _usage(self, reply: client.Reply, batch: Sequence[str]) -> Usage:
        told = reply.body.get("usage")
        tokens = told.get("prompt_tokens") if isinstance(told, Mapping) else None
        if not isinstance(tokens, int) or not 0 < tokens <= MOST_TOKENS:
            tokens = sum(count_text(text, self._model) for text in batch)
        usage = Usage(1, tokens)
        return replace(usage, cost_usd=self.price(usage)) + self._lost(batch, reply.lost)

    def _most_tokens(self, batch: Sequence[str]) -> int:
        # Not framed as messages are; the bound's allowance for that does no harm.
        return bound([Message("user", text) for text in batch], self._model)

    def _lost(self, batch: Sequence[str], lost: int) -> Usage:
        """What attempts that were cut off may have cost."""
        usage = Usage(lost, self._most_tokens(batch) * lost) if lost else Usage()
        return replace(usage, cost_usd=self.price(usage))

    def _error(self, text: str, batch: Sequence[str], lost: int, spent: Usage) -> RequestError:
        spent += self._lost(batch, lost)
        return BilledError(text, spent) if spent.requests else RequestError(text)


class _WrongVectors(Exception):
    """The endpoint's vectors are of no use, and why."""


def _batches(texts: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = []
    size = 0
    for text in texts:
        if not found or len(found[-1]) >= _BATCH or size + len(text) > _BATCH_CHARACTERS:
            found.append([])
            size = 0
        # OpenAI refuses empty texts; a space means as little.
        found[-1].append(text or " ")
        size += len(text)
    return found


def _vector(value: object) -> FloatArray:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float32)
    # A number too large becomes infinite here and is refused as one.
    with np.errstate(over="ignore"):
        return np.asarray(value, dtype=np.float32)
