"""Models that remember: an equal request is paid for once, over candidates, runs and restarts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from backends.errors import InputError, RequestError
from backends.types import ChatModel, ChatRequest, ChatResponse, Embedder, Embeddings, ToolCall, Usage, answer_key
from evals.budget import Budget
from evals.store import Store, StoredEmbedding
from evals.trial import whole_characters

_Answered = TypeVar("_Answered", ChatResponse, Embeddings)


class _Account:
    """Books what the calls of one model cost, so that no dollar is forgotten when one fails or is cut off.

    The store is written before anything is awaited: Ctrl-C may cancel a call, even twice, wherever it waits.
    """

    def __init__(self, model: ChatModel | Embedder, store: Store, run_id: str, budget: Budget) -> None:
        self._model = model
        self._store = store
        self._run_id = run_id
        self._budget = budget
        self._bill: Callable[[Usage], float | None] | None = getattr(model, "bill", None)
        """What is billed for a usage, where that is not its price: batches cost less than production does."""
        self._goes_on = bool(getattr(model, "outlives", False))
        """Whether calls go on when this process is gone, so that the next one meets them again."""

    async def pay(
        self,
        worst: Usage,
        call: Callable[[], Awaitable[_Answered]],
        keep: Callable[[_Answered, float], None],
        name: str,
    ) -> _Answered:
        """Call within the budget; `keep` stores the answer and the dollars that left the house for it.

        Args:
            worst: What the call can use at most.
            call: Makes it.
            keep: Stores its answer.
            name: Names the call, the same in every sitting.

        Raises what the call raises, and BudgetError.
        """
        name = name if self._goes_on else ""
        price_usd = self._model.price(worst) if self._model.billed else 0.0
        worst_usd = self._bill(worst) if self._bill is not None and self._model.billed else price_usd
        reserved = await self._budget.reserve(worst_usd, self._model.name, name) if self._model.billed else 0.0
        # A call that was cut off may have been billed in full; one that failed knows what it cost.
        billed: float | None = worst_usd or 0.0
        try:
            answer = await call()
        except (RequestError, InputError) as error:
            usage = error.usage if isinstance(error, RequestError) else Usage()
            billed = self._billed(usage)
            self._lose(usage, billed)
            raise
        except BaseException:
            if name:
                billed = None
            else:
                self._lose(Usage(cost_usd=price_usd), worst_usd or 0.0)
            raise
        else:
            billed = self._billed(answer.usage)
            keep(answer, billed)
        finally:
            if billed is None:
                await self._budget.leave(reserved, name)
            else:
                await self._budget.settle(reserved, billed, name)
        return answer

    def _billed(self, usage: Usage) -> float:
        if not self._model.billed or not usage.cost_usd:
            return 0.0
        price, bill = (self._model.price(usage), self._bill(usage)) if self._bill is not None else (None, None)
        # A cost may hold more than the price of the usage tells: prompt tokens that were written into a cache.
        return usage.cost_usd * bill / price if price and bill is not None else usage.cost_usd

    def _lose(self, usage: Usage, billed_usd: float) -> None:
        if usage != Usage():
            self._store.add_loss(self._run_id, self._model.name, usage, billed_usd)


class CachedChat:
    """A ChatModel in front of another: answers from the store, joins equal requests in flight, keeps the budget."""

    def __init__(self, chat: ChatModel, store: Store, run_id: str, budget: Budget) -> None:
        self._chat = chat
        self._store = store
        self._run_id = run_id
        self._account = _Account(chat, store, run_id, budget)
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
    def outlives(self) -> bool:
        """Whether requests to the model behind go on when this process is gone."""
        return bool(getattr(self._chat, "outlives", False))

    @property
    def native_tools(self) -> bool:
        """Whether the model behind takes tools."""
        return self._chat.native_tools

    @property
    def notes(self) -> tuple[str, ...]:
        """What the model behind says that a reader of the figures should know."""
        return tuple(getattr(self._chat, "notes", ()))

    def price(self, usage: Usage) -> float | None:
        """The price of the model behind."""
        return self._chat.price(usage)

    def worst_case(self, request: ChatRequest) -> Usage:
        """The worst case of the model behind."""
        return self._chat.worst_case(request)

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer from the store, from an equal request in flight, or from the model."""
        text = request.as_json()
        key = answer_key(self._chat.fingerprint, text)
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
            response = await self._ask(key, text, request)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            future.exception()  # mark as seen: there may be no second waiter
            raise
        else:
            future.set_result(response)
            return response
        finally:
            del self._in_flight[key]

    async def _ask(self, key: str, text: str, request: ChatRequest) -> ChatResponse:
        worst = self._chat.worst_case(request) if self._chat.billed else Usage()

        def keep(response: ChatResponse, billed_usd: float) -> None:
            self._store.add_response(self._run_id, key, self.name, text, response, billed_usd)

        return await self._account.pay(worst, lambda: self._answer(request), keep, key)

    async def _answer(self, request: ChatRequest) -> ChatResponse:
        """The model's answer in whole characters: half of one could be neither stored nor sent on."""
        response = await self._chat.complete(request)
        calls = tuple(
            ToolCall(*(whole_characters(text) for text in (call.name, call.arguments, call.id)))
            for call in response.tool_calls
        )
        return replace(response, text=whole_characters(response.text), tool_calls=calls)

    async def aclose(self) -> None:
        """Close the model behind."""
        await self._chat.aclose()


class CachedEmbedder:
    """An Embedder in front of another that computes each text once."""

    def __init__(self, embedder: Embedder, store: Store, run_id: str, budget: Budget) -> None:
        self._embedder = embedder
        self._store = store
        self._run_id = run_id
        self._account = _Account(embedder, store, run_id, budget)
        self._in_flight: dict[str, asyncio.Future[None]] = {}
        """By key of a text: done when its vector is remembered, or when that has failed."""

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
        """Embed the texts, in order; `cached` only when every one was remembered. What others ask for is waited for."""
        while others := {self._in_flight[key] for text in texts if (key := self._key(text)) in self._in_flight}:
            await asyncio.wait(others)
        found = {text: self._store.embedding(self._key(text)) for text in texts}
        missing = [text for text, stored in found.items() if stored is None]
        if missing:
            found |= await self._ask_once(missing)
        parts = [stored for text in texts if (stored := found[text]) is not None]
        usage = sum((replace(part.usage, cost_usd=self._embedder.price(part.usage)) for part in parts), Usage())
        vectors = np.stack([part.vector for part in parts])
        return Embeddings(vectors, usage, sum(part.seconds for part in parts), cached=not missing)

    async def _ask_once(self, texts: Sequence[str]) -> dict[str, StoredEmbedding]:
        """Ask, while others that want one of these texts wait; they ask themselves should this fail."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        own = dict.fromkeys(map(self._key, texts), done)
        self._in_flight |= own
        try:
            return await self._ask(texts)
        finally:
            for key in own:
                del self._in_flight[key]
            done.set_result(None)

    async def _ask(self, texts: Sequence[str]) -> dict[str, StoredEmbedding]:
        """The texts with their vectors, which are remembered from now on."""
        worst = self._embedder.worst_case(texts) if self._embedder.billed else Usage()
        asked: dict[str, StoredEmbedding] = {}

        def keep(fresh: Embeddings, billed_usd: float) -> None:
            asked.update(self._shares(texts, fresh))
            for text, computed in asked.items():
                self._store.add_embedding(self._run_id, self._key(text), computed, billed_usd / len(texts))

        name = self._key("\n".join(self._key(text) for text in texts))
        await self._account.pay(worst, lambda: self._embedder.embed(texts), keep, name)
        return asked

    def _shares(self, texts: Sequence[str], fresh: Embeddings) -> dict[str, StoredEmbedding]:
        """A batch is measured as one; each text takes its even share of requests-free figures."""
        share = replace(fresh.usage, requests=1, input_tokens=-(-fresh.usage.input_tokens // len(texts)), cost_usd=None)
        share = replace(share, cost_usd=self._embedder.price(share))
        return {
            text: StoredEmbedding(vector, share, fresh.seconds / len(texts))
            for text, vector in zip(texts, fresh.vectors, strict=True)
        }

    async def aclose(self) -> None:
        """Close the model behind."""
        await self._embedder.aclose()


def store_path(workspace: Path) -> Path:
    """Where a workspace keeps its store."""
    return workspace / "advisor.db"
