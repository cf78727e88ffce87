"""Requests that go in batches: each is sent, paid for and answered once, whatever happens on the way."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.batching import Batching, BatchProgress
from backends.errors import BackendUnavailable, InputError, RequestError
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.failures import BilledError
from backends.openai.prices import batch_prices, prices
from backends.openai.retries import Policy
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.types import ChatRequest, ChatResponse, Message
from evals.budget import Budget
from evals.cache import CachedChat
from evals.store import RunRow, Store
from evals.unsettled import Unsettled
from tests.batch_server import EXPIRED, MISSING, BatchServer, line_error
from tests.openai_server import Fault, Json, Server, error

QUICK = Policy(first_seconds=0.001, most_seconds=0.01, attempts=3)
LOST = Fault(body={"lost": "on its way"}, cut=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def told() -> list[BatchProgress]:
    return []


@pytest.fixture
def batching(tmp_path: Path, told: list[BatchProgress]) -> Batching:
    return Batching(tmp_path / "batches", told.append, 0.02, (0.005, 0.01))


def chat_at(server: Server, batching: Batching, **given: Any) -> OpenAIChat:
    settings = EndpointSettings(**{"prices": {"*": TokenPrices(1.0, 2.0)}, **given})
    endpoint = Endpoint("here", server.url, None, settings)
    return OpenAIChat("here/gpt-4o-mini", endpoint, "gpt-4o-mini", policy=QUICK, batching=batching)


def asks(n: int, **given: Any) -> list[ChatRequest]:
    return [ChatRequest((Message("user", f"question {number}"),), max_tokens=20, **given) for number in range(n)]


async def ask(server: Server, batching: Batching, requests: Sequence[ChatRequest], **given: Any) -> list[Any]:
    """What each request gave, an answer or an error."""
    chat = chat_at(server, batching, **given)
    found = await asyncio.gather(*(chat.complete(request) for request in requests), return_exceptions=True)
    await chat.aclose()
    return found


def texts(found: Sequence[Any]) -> list[str]:
    assert all(isinstance(one, ChatResponse) for one in found), found
    return [one.text for one in found]


async def test_all_that_is_asked_at_once_goes_in_one_batch_and_comes_back_in_order(
    batching: Batching, told: list[BatchProgress]
) -> None:
    async with BatchServer() as server:
        found = await ask(server, batching, asks(30))
    assert texts(found) == [f"question {number}" for number in range(30)]
    assert len(server.batches) == 1
    assert server.bodies == [], "nothing was asked one by one"
    assert {one.seconds for one in found} == {0.0}, "how long a user waits cannot be told"
    assert (told[-1].status, told[-1].requests, told[-1].done) == ("completed", 30, 30)
    assert server.files == {}, "what was uploaded is deleted"


async def test_what_is_asked_after_an_answer_makes_a_batch_of_its_own(batching: Batching) -> None:
    async with BatchServer() as server:
        chat = chat_at(server, batching)

        async def two_steps(request: ChatRequest) -> str:
            first = await chat.complete(request)
            again = replace(request, messages=(Message("user", f"{first.text}, really?"),))
            return (await chat.complete(again)).text

        found = await asyncio.gather(*(two_steps(request) for request in asks(5)))
        await chat.aclose()
    assert found == [f"question {number}, really?" for number in range(5)]
    assert [len(batch["request_counts"]) and batch["request_counts"]["total"] for batch in server.batches.values()] == [
        5,
        5,
    ]


async def test_equal_requests_that_are_each_to_be_answered_are_each_sent(batching: Batching) -> None:
    (request,) = asks(1)
    async with BatchServer() as server:
        found = await ask(server, batching, [replace(request, repeat=number) for number in range(3)])
    assert len(texts(found)) == 3
    assert len(set(server.names)) == 3


@pytest.mark.parametrize("instead", [EXPIRED, MISSING, line_error(500, "It broke."), line_error(429, "Busy.")])
async def test_a_line_that_was_not_worked_on_is_sent_again(instead: Json, batching: Batching) -> None:
    async with BatchServer(line=lambda number, body: instead if number == 1 else None) as server:
        found = await ask(server, batching, asks(3))
    assert sorted(texts(found)) == ["question 0", "question 1", "question 2"]
    assert len(server.batches) == 2
    assert len(server.names) == 3


async def test_an_expired_batch_gives_what_it_has_and_the_rest_is_sent_again(batching: Batching) -> None:
    async with BatchServer(ends_as="expired", line=lambda number, body: EXPIRED if number < 4 else None) as server:
        found = await ask(server, batching, asks(6))
    assert sorted(texts(found)) == [f"question {number}" for number in range(6)]
    assert len(server.names) == len(set(server.names)) == 6


async def test_a_line_that_never_comes_back_is_an_error_of_its_own_that_cost_nothing(batching: Batching) -> None:
    async with BatchServer(line=lambda number, body: EXPIRED if "question 1" in str(body) else None) as server:
        found = await ask(server, batching, asks(2))
    assert found[0].text == "question 0"
    assert isinstance(found[1], RequestError)
    assert not isinstance(found[1], BilledError)
    assert "Given up after 3 batches" in str(found[1])


async def test_a_line_that_is_refused_for_good_is_an_error_and_one_for_its_form_is_asked_otherwise(
    batching: Batching,
) -> None:
    def line(number: int, body: Json) -> Json | None:
        if "question 1" in str(body):
            return line_error(400, "The response was filtered.", code="content_filter")
        return line_error(400, "Unknown parameter: 'seed'.", param="seed") if "seed" in body else None

    async with BatchServer(line=line) as server:
        found = await ask(server, batching, asks(2, temperature=0.5))
    assert found[0].text == "question 0"
    assert "content filter" in str(found[1])
    assert len(server.batches) == 2


async def test_an_upload_and_a_batch_whose_answers_are_lost_are_made_once(batching: Batching) -> None:
    async with BatchServer(
        uploading=lambda number: LOST if number == 0 else None, creating=lambda number: LOST if number == 0 else None
    ) as server:
        found = await ask(server, batching, asks(3))
    assert len(texts(found)) == 3
    assert (server.uploads, len(server.batches)) == (1, 1)


async def test_a_broken_creation_is_looked_up_before_it_is_tried_again(batching: Batching) -> None:
    async with BatchServer(creating=lambda number: error(500, "Who knows.") if number == 0 else None) as server:
        found = await ask(server, batching, asks(2))
    assert len(texts(found)) == 2
    assert len(server.batches) == 1


async def test_the_next_process_gets_the_answers_of_a_batch_that_the_last_one_sent(batching: Batching) -> None:
    async with BatchServer(on_hold=True) as server:
        chat = chat_at(server, batching)
        waiting = [asyncio.create_task(chat.complete(request)) for request in asks(4)]
        while not any(batch["looks"] for batch in server.batches.values()):
            await asyncio.sleep(0.005)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await chat.aclose()
        server.on_hold = False
        found = await ask(server, batching, asks(5))
    assert texts(found) == [f"question {number}" for number in range(5)]
    assert len(server.batches) == 2, "one of before, and one for the request that is new"
    assert len(server.names) == len(set(server.names)) == 5


async def test_a_batch_whose_id_was_never_written_down_is_found_by_its_nonce(batching: Batching) -> None:
    async with BatchServer(creating=lambda number: Fault(hang=True)) as server:
        chat = chat_at(server, batching)
        waiting = asyncio.create_task(chat.complete(asks(1)[0]))
        while not server.batches:
            await asyncio.sleep(0.005)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await chat.aclose()
        found = await ask(server, batching, asks(1))
    assert texts(found) == ["question 0"]
    assert len(server.batches) == 1


async def test_an_upload_that_became_no_batch_is_deleted_and_sent_when_it_is_asked_for_again(
    batching: Batching,
) -> None:
    async with BatchServer(uploading=lambda number: Fault(hang=True) if number == 0 else None) as server:
        chat = chat_at(server, batching)
        waiting = asyncio.create_task(chat.complete(asks(1)[0]))
        while not server.uploads:
            await asyncio.sleep(0.005)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await chat.aclose()
        assert server.batches == {}
        found = await ask(server, batching, asks(1))
    assert texts(found) == ["question 0"]
    assert (len(server.batches), len(server.names)) == (1, 1)


async def test_answers_that_were_fetched_and_never_stored_are_not_paid_for_again(batching: Batching) -> None:
    async with BatchServer() as server:
        first = await ask(server, batching, asks(3))
        # A process that died before its store had them asks the same again.
        again = await ask(server, batching, asks(3))
    assert texts(first) == texts(again)
    assert (len(server.batches), len(server.names)) == (1, 3)


async def test_an_endpoint_without_batches_is_one_clear_message(batching: Batching) -> None:
    class Without(Server):
        async def other(self, method: str, path: str, headers: Any, raw: bytes) -> Fault | None:
            return error(404, "Not Found") if "files" in path or "batches" in path else None

    async with Without() as server:
        (found,) = await ask(server, batching, asks(1))
        assert isinstance(found, InputError)
        assert "takes no batches" in str(found)
        assert "Leave out --batch" in str(found)
        (singly,) = await ask(server, batching, asks(1), batches=False)
        assert singly.text == "question 0"
    assert list(batching.folder.iterdir()) == []


async def test_what_costs_nothing_goes_singly(batching: Batching) -> None:
    async with BatchServer() as server:
        (found,) = await ask(server, batching, asks(1), prices={"*": TokenPrices(0.0, 0.0)})
    assert found.text == "question 0"
    assert (server.batches, len(server.bodies)) == ({}, 1)


async def test_a_batch_that_is_refused_as_a_whole_is_told_with_the_reason(batching: Batching) -> None:
    async with BatchServer(ends_as="failed") as server:
        (found,) = await ask(server, batching, asks(1))
    assert isinstance(found, InputError)
    assert "Line 1 is wrong." in str(found)
    assert server.files == {}


async def test_the_file_of_a_batch_that_is_refused_does_not_stay_there(batching: Batching) -> None:
    class Refusing(BatchServer):
        async def other(self, method: str, path: str, headers: Any, raw: bytes) -> Fault | None:
            if method == "POST" and path.endswith("/batches"):
                return error(400, "This model takes no batches.")
            return await super().other(method, path, headers, raw)

    async with Refusing() as server:
        (found,) = await ask(server, batching, asks(1))
    assert isinstance(found, InputError)
    assert (server.uploads, server.files) == (1, {})


async def test_a_batch_that_somebody_cancelled_stops_the_run_and_the_next_sends_what_is_missing(
    batching: Batching,
) -> None:
    missing = {"error": {"code": "batch_cancelled", "message": "cancelled"}}
    async with BatchServer(ends_as="cancelled", line=lambda number, body: missing if number == 1 else None) as server:
        found = await ask(server, batching, asks(2))
        assert [type(one) for one in found].count(BackendUnavailable) == 1
        server.ends_as = "completed"
        again = await ask(server, batching, asks(2))
    assert texts(again) == ["question 0", "question 1"]
    assert len(server.names) == 2


def test_batches_cost_what_is_published_else_half_at_openai_else_what_single_requests_cost() -> None:
    openai = Endpoint("openai", "https://api.openai.com/v1", None)
    single, batched = prices(openai, "gpt-4.1-mini"), batch_prices(openai, "gpt-4.1-mini")
    assert single is not None
    assert batched is not None
    assert batched.input.usd == single.input.usd / 2
    assert batched.cached == single.cached, "cached prompt tokens cost the same in a batch, as published"
    tuned = "ft:gpt-4.1-mini-2025-04-14:acme::x"
    halved, whole = batch_prices(openai, tuned), prices(openai, tuned)
    assert halved is not None
    assert whole is not None
    assert halved.input.usd == whole.input.usd / 2
    own = Endpoint("mine", "https://models.example.com/v1", None, EndpointSettings(prices={"*": TokenPrices(1.0, 2.0)}))
    assert batch_prices(own, "m") == prices(own, "m")
    assert batch_prices(Endpoint("far", "https://models.example.com/v1", None), "m") is None


async def test_the_cap_is_reserved_before_a_batch_is_sent_and_the_bill_is_the_servers(
    tmp_path: Path, batching: Batching, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As at OpenAI: the user's price is that of single requests, and batches cost half.
    monkeypatch.setattr(Endpoint, "is_openai", property(lambda self: True))
    store = Store.open(tmp_path / "advisor.db")
    store.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
    async with BatchServer(line=lambda number, body: EXPIRED if number in {1, 6} else None) as server:
        chat = chat_at(server, batching)
        worst = chat.bill and chat.bill(chat.worst_case(asks(1)[0]))
        assert worst is not None
        budget = Budget(9.5 * worst, 0.0, Unsettled(store, "r"))
        cached = CachedChat(chat, store, "r", budget)
        found = await asyncio.gather(*(cached.complete(request) for request in asks(20)), return_exceptions=True)
        await cached.aclose()
    answered = [one for one in found if isinstance(one, ChatResponse)]
    assert len(answered) == 20, found
    assert len(server.batches) >= 2, "the cap lets nine wait at once"
    assert store.billed_usd("r") == budget.spent_usd == pytest.approx(server.billed_usd)
    assert sum(one.usage.cost_usd or 0.0 for one in answered) == pytest.approx(2 * server.billed_usd)
    assert store.unsettled("r") == {}
    store.close()
