"""Models that remember: an equal request is paid for once, over candidates, runs and restarts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from backends.errors import RequestError
from backends.types import ChatModel, ChatRequest, ChatResponse, Embedder, Embeddings, Usage, request_key
from evals.budget import Budget
from evals.store import Store, StoredEmbedding


class CachedChat:
    """A ChatModel in front of another: answers from the store, joins equal requests in flight, keeps the budget."""

    def __init__(self, chat: ChatModel, store: Store, run_id: str, budget: Budget) -> None:
        self._chat = chat
        self._store = store
        self._run_id = run_id
        self._budget = budget
        self._in_flight: dict[str, asyncio.Future[ChatResponse]] = {}

    @property
    def name(self) -> str:
        """The name of the model behind."""
        return self._chat.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model behind."""
        return self._chat.fingerprint

    @property
    def billed(self) -> bool:
        """Whether the model behind spends money."""
        return self._chat.billed

    @property
    def native_tools(self) -> bool:
        """Whether the model behind takes tools."""
        return self._chat.native_tools

    def price(self, usage: Usage) -> float | None:
        """The price of the model behind."""
        return self._chat.price(usage)

    def worst_case(self, request: ChatRequest) -> Usage:
        """The worst case of the model behind."""
        return self._chat.worst_case(request)

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer from the store, from an equal request in flight, or from the model."""
        key = request_key(self._chat.fingerprint, request)
        stored = self._store.response(key)
        if stored is not None:
            # Today's price of the tokens that were measured then.
            return replace(stored, usage=replace(stored.usage, cost_usd=self._chat.price(stored.usage)))
        if key in self._in_flight:
            # Shielded: cancelling one waiter must not cancel the others' answer.
            return replace(await asyncio.shield(self._in_flight[key]), cached=True)
        future = asyncio.get_running_loop().create_future()
        self._in_flight[key] = future
        try:
            response = await self._ask(key, request)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            future.exception()  # mark as seen: there may be no second waiter
            raise
        else:
            future.set_result(response)
            return response
        finally:
            del self._in_flight[key]

    async def _ask(self, key: str, request: ChatRequest) -> ChatResponse:
        reserved = 0.0
        if self._chat.billed:
            reserved = await self._budget.reserve(self._chat.price(self._chat.worst_case(request)), self.name)
        # A call that was cut off may have been billed in full; one that failed knows what it cost.
        billed, lost = reserved, Usage(cost_usd=reserved)
        try:
            response = await self._chat.complete(request)
            billed, lost = (response.usage.cost_usd or 0.0) if self._chat.billed else 0.0, Usage()
        except RequestError as error:
            billed, lost = (error.usage.cost_usd or 0.0) if self._chat.billed else 0.0, error.usage
            raise
        finally:
            await self._budget.settle(reserved, billed)
            if lost != Usage():
                self._store.add_loss(self._run_id, self.name, lost, billed)
        self._store.add_response(self._run_id, key, self.name, request.as_json(), response, billed)
        return response

    async def aclose(self) -> None:
        """Close the model behind."""
        await self._chat.aclose()


class CachedEmbedder:
    """An Embedder in front of another that computes each text once."""

    def __init__(self, embedder: Embedder, store: Store, run_id: str, budget: Budget) -> None:
        self._embedder = embedder
        self._store = store
        self._run_id = run_id
        self._budget = budget

    @property
    def name(self) -> str:
        """The name of the model behind."""
        return self._embedder.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model behind."""
        return self._embedder.fingerprint

    @property
    def billed(self) -> bool:
        """Whether the model behind spends money."""
        return self._embedder.billed

    def price(self, usage: Usage) -> float | None:
        """The price of the model behind."""
        return self._embedder.price(usage)

    def worst_case(self, texts: Sequence[str]) -> Usage:
        """The worst case of the model behind."""
        return self._embedder.worst_case(texts)

    def _key(self, text: str) -> str:
        return hashlib.sha256(f"{self.fingerprint}\n{text}".encode()).hexdigest()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed the texts, in order; `cached` only when every one was remembered."""
        found = {text: self._store.embedding(self._key(text)) for text in texts}
        missing = [text for text, stored in found.items() if stored is None]
        if missing:
            fresh, billed = await self._ask(missing)
            # A batch is measured as one; each text takes its even share of requests-free figures.
            share = replace(
                fresh.usage, requests=1, input_tokens=-(-fresh.usage.input_tokens // len(missing)), cost_usd=None
            )
            share = replace(share, cost_usd=self._embedder.price(share))
            for text, vector in zip(missing, fresh.vectors, strict=True):
                found[text] = computed = StoredEmbedding(vector, share, fresh.seconds / len(missing))
                self._store.add_embedding(self._run_id, self._key(text), computed, billed / len(missing))
        parts = [stored for text in texts if (stored := found[text]) is not None]
        usage = sum((replace(part.usage, cost_usd=self._embedder.price(part.usage)) for part in parts), Usage())
        vectors = np.stack([part.vector for part in parts])
        return Embeddings(vectors, usage, sum(part.seconds for part in parts), cached=not missing)

    async def _ask(self, texts: Sequence[str]) -> tuple[Embeddings, float]:
        """The vectors, and the dollars that left the house for them."""
        if not self._embedder.billed:
            return await self._embedder.embed(texts), 0.0
        reserved = await self._budget.reserve(self._embedder.price(self._embedder.worst_case(texts)), self.name)
        billed, lost = reserved, Usage(cost_usd=reserved)
        try:
            fresh = await self._embedder.embed(texts)
            billed, lost = fresh.usage.cost_usd or 0.0, Usage()
        except RequestError as error:
            billed, lost = error.usage.cost_usd or 0.0, error.usage
            raise
        finally:
            await self._budget.settle(reserved, billed)
            if lost != Usage():
                self._store.add_loss(self._run_id, self.name, lost, billed)
        return fresh, billed

    async def aclose(self) -> None:
        """Close the model behind."""
        await self._embedder.aclose()


def store_path(workspace: Path) -> Path:
    """Where a workspace keeps its store."""
    return workspace / "advisor.db"
