"""What calls cost is never forgotten: answers no disk would take, calls cut off, and runs that Ctrl-C ends."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advisor import engine
from advisor.scenario.model import Overrides
from backends.errors import BudgetError, RequestError
from backends.scripted import ScriptedChat, ScriptedEmbedder
from backends.types import ChatRequest, ChatResponse, Embeddings, Message, Tool, Usage
from evals.budget import Budget
from evals.cache import CachedChat, CachedEmbedder, store_path
from evals.store import RunRow, Store
from tests import toys

ROOT = Path(__file__).parent.parent
HALF = "\ud83d"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "advisor.db") as opened:
        opened.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
        yield opened


def ask(number: int = 0) -> ChatRequest:
    return ChatRequest((Message("user", f"question {number}"),), max_tokens=10)


def billed_chat(**script: Any) -> ScriptedChat:
    return ScriptedChat("scripted/dear", {"default": "yes", "billed": True, "usd_per_1m_input": 1e6, **script})


class BilledEmbedder(ScriptedEmbedder):
    """A dollar a text, paid for after a while."""

    billed = True  # type: ignore[assignment]

    def price(self, usage: Usage) -> float | None:
        return float(usage.requests)

    def worst_case(self, texts: Sequence[str]) -> Usage:
        return Usage(len(texts))

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        await asyncio.sleep(60)
        raise AssertionError("it was to be cancelled")


async def cancelled(*calls: asyncio.Task[Any]) -> None:
    """Let the calls begin, then cancel them as asyncio.run does on Ctrl-C."""
    await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*calls, return_exceptions=True))


async def test_an_answer_with_half_a_character_is_paid_for_remembered_and_the_same_ever_after(store: Store) -> None:
    budget = Budget(1000.0)
    chat = CachedChat(billed_chat(default=f"bad {HALF}"), store, "r", budget)
    first, again = await chat.complete(ask()), await chat.complete(ask())
    assert first.text == again.text == "bad \ufffd"
    assert again.cached
    assert store.billed_usd("r") == budget.spent_usd == first.usage.cost_usd
    assert first.usage.cost_usd is not None
    assert first.usage.cost_usd > 0


async def test_half_a_character_in_the_arguments_of_a_call_is_replaced_and_two_halves_are_one(store: Store) -> None:
    class Calling(ScriptedChat):
        async def complete(self, request: ChatRequest) -> ChatResponse:
            (call,) = (await super().complete(request)).tool_calls
            made = replace(call, name=f"add{HALF}", arguments=f'{{"a": "{HALF} {HALF}\ude00"}}')
            return ChatResponse("", Usage(1, 1, 0, 1, 1.0), 0.1, "tool_calls", (made,))

    rule = {"when": "", "calls": [{"name": "add", "arguments": {}}]}
    model = Calling("scripted/calls", {"rules": [rule], "native_tools": True, "billed": True})
    request = replace(ask(), tools=(Tool("add", "Adds.", "{}"),))
    chat = CachedChat(model, store, "r", Budget())
    (call,) = (await chat.complete(request)).tool_calls
    assert (call.name, call.arguments) == ("add\ufffd", '{"a": "\ufffd \U0001f600"}')
    assert (await chat.complete(request)).tool_calls == (call,)
    assert store.billed_usd("r") == 1.0


@pytest.mark.parametrize("limit", [None, 1000.0])
async def test_calls_that_are_cancelled_count_at_their_worst_whether_or_not_there_is_a_cap(
    store: Store, limit: float | None
) -> None:
    model, budget = billed_chat(sleep_seconds=60), Budget(limit)
    worst = model.price(model.worst_case(ask()))
    assert worst is not None
    chat = CachedChat(model, store, "r", budget)

    async def ask_three() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(chat.complete(ask(number)))

    await cancelled(asyncio.create_task(ask_three()))
    assert store.billed_usd("r") == budget.spent_usd == pytest.approx(3 * worst)
    assert store.asked("r") == Usage(cost_usd=pytest.approx(3 * worst)), "asked again later, so no request of its own"


async def test_embedding_that_is_cancelled_counts_at_its_worst(store: Store) -> None:
    embedder = CachedEmbedder(BilledEmbedder("scripted/words"), store, "r", Budget())
    await cancelled(asyncio.create_task(embedder.embed(["one", "two"])))
    assert store.billed_usd("r") == 2.0


async def test_calls_that_still_wait_for_a_reservation_cost_nothing(store: Store) -> None:
    model = billed_chat(sleep_seconds=60)
    worst = model.price(model.worst_case(ask()))
    assert worst is not None
    chat = CachedChat(model, store, "r", Budget(1.5 * worst))
    await cancelled(*(asyncio.create_task(chat.complete(ask(number))) for number in range(4)))
    assert store.billed_usd("r") == pytest.approx(worst)


async def test_a_call_of_unknown_price_that_is_cancelled_makes_the_spending_unknown(store: Store) -> None:
    chat = CachedChat(billed_chat(sleep_seconds=60, usd_per_1m_input=None), store, "r", Budget())
    await cancelled(asyncio.create_task(chat.complete(ask())))
    assert store.asked("r").cost_usd is None


async def test_calls_of_a_free_model_that_are_cancelled_cost_nothing(store: Store) -> None:
    chat = CachedChat(billed_chat(sleep_seconds=60, billed=False), store, "r", Budget())
    await cancelled(asyncio.create_task(chat.complete(ask())))
    assert store.asked("r") == Usage()


@pytest.mark.parametrize("answered", [True, False])
async def test_a_second_cancellation_while_the_budget_is_busy_forgets_nothing(store: Store, answered: bool) -> None:
    budget = Budget(1000.0)
    chat = CachedChat(billed_chat(sleep_seconds=0.0 if answered else 60.0), store, "r", budget)
    async with budget._settled:
        call = asyncio.create_task(chat.complete(ask()))
        await asyncio.sleep(0.05)
        for _ in range(2):
            call.cancel()
            await asyncio.sleep(0.01)
    assert call.cancelled()
    assert store.billed_usd("r") == budget.spent_usd > 0
    assert store._execute("SELECT count(*) FROM losses").fetchone() == (0 if answered else 1,)


async def test_vectors_are_paid_for_once_and_share_the_bill(store: Store) -> None:
    class Quick(BilledEmbedder):
        async def embed(self, texts: Sequence[str]) -> Embeddings:
            found = await ScriptedEmbedder.embed(self, texts)
            return replace(found, usage=replace(found.usage, cost_usd=3.0))

    embedder = CachedEmbedder(Quick("scripted/words"), store, "r", Budget(10.0))
    first, again = await embedder.embed(["one", "two", "one"]), await embedder.embed(["two", "one"])
    assert (first.cached, again.cached) == (False, True)
    np.testing.assert_array_equal(first.vectors[[1, 0]], again.vectors)
    assert store.billed_usd("r") == pytest.approx(3.0)


async def test_texts_that_are_asked_for_at_the_same_time_are_paid_for_once(store: Store) -> None:
    calls: list[list[str]] = []

    class Slow(BilledEmbedder):
        async def embed(self, texts: Sequence[str]) -> Embeddings:
            is_first = not calls
            calls.append(list(texts))
            await asyncio.sleep(0.01)
            if is_first:
                raise RequestError("lost on the way")
            found = await ScriptedEmbedder.embed(self, texts)
            return replace(found, usage=replace(found.usage, cost_usd=float(len(texts))))

    budget = Budget(10.0)
    embedder = CachedEmbedder(Slow("scripted/words"), store, "r", budget)
    wanted = (["one", "two"], ["two", "one"], ["two", "three"], ["three"])
    failed, *found = await asyncio.gather(*(embedder.embed(texts) for texts in wanted), return_exceptions=True)
    assert isinstance(failed, RequestError)
    assert sorted(text for texts in calls[1:] for text in texts) == ["one", "three", "two"]
    assert [part.vectors.shape[0] for part in found if isinstance(part, Embeddings)] == [2, 2, 1]
    assert store.billed_usd("r") == pytest.approx(budget.spent_usd) == pytest.approx(3.0)


async def test_a_refusal_is_not_waited_for_when_only_rounding_is_reserved() -> None:
    budget = Budget(1000.0)
    worst = [0.1 + number * 1e-5 for number in range(5000)]
    for usd in worst:
        await budget.reserve(usd, "m")
    order = list(range(5000))
    random.Random(5).shuffle(order)
    for number in order:
        await budget.settle(worst[number], 0.0)
    async with asyncio.timeout(5):
        with pytest.raises(BudgetError):
            await budget.reserve(1001.0, "m")


WITNESSED = """
import sys
from advisor.cli.app import main
from backends.scripted import ScriptedChat

complete, path = ScriptedChat.complete, sys.argv.pop()

async def witnessed(self, request):
    with open(path, "a") as begun:
        begun.write("x")
    return await complete(self, request)

ScriptedChat.complete = witnessed
main()
"""
"""The command line, with a mark in a file for each call that is begun."""


def test_what_ctrl_c_cut_off_counts_against_the_cap_of_the_next_sitting(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(
        tmp_path / "s", "model", toys.rules(0.4), sleep_seconds=600, billed=True, usd_per_1m_input=1000.0
    )
    plain = {"name": "zero_shot", "instruction": "plain"}  # nothing to choose: the first calls are the 15 dev samples
    path = toys.scenario(tmp_path / "s", model, techniques=[plain], fine_tune={"when": "never"})
    begun = tmp_path / "begun"
    command = [sys.executable, "-c", WITNESSED, "run", path, "--workspace", tmp_path / "w", "--yes", begun]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for _ in range(3000):
        time.sleep(0.02)
        if begun.exists() and len(begun.read_text()) == 15:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    with Store.open(store_path(tmp_path / "w")) as store:
        (run,) = store.runs()
        spent = store.billed_usd(run.id)
        ((lost,),) = store._execute("SELECT count(*) FROM losses").fetchall()
    assert lost == 15
    assert spent > 0
    again = engine.run(path, tmp_path / "w", Overrides(budget_usd=spent), resume=run.id)
    assert again.exit_code == engine.EXIT_BUDGET
    assert f"with ${spent:.4g} spent" in again.report["stopped"]
    assert again.report["spent"]["usd"] == pytest.approx(spent)
