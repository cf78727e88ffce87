"""Drawn answers to one prompt go in one request, and every token that was billed is somebody's."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import BackendUnavailable, RequestError
from backends.meter import Meter
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.prices import Prices, Rate
from backends.openai.retries import Policy
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.openai.several import shared
from backends.types import ChatRequest, ChatResponse, Message, Usage
from evals.budget import Budget
from evals.cache import CachedChat
from evals.store import RunRow, Store
from tests.openai_server import CUT, NO_MODEL, TOO_LONG, Fault, Json, Server, error

QUICK = Policy(first_seconds=0.001, most_seconds=0.01)
ASK = ChatRequest((Message("system", "Be brief. " * 20), Message("user", "What is it?")), temperature=0.7, seed=3)
PRICES = {"*": TokenPrices(1.0, 2.0)}
K = 5
DRAWS = [replace(ASK, seed=3 + number, repeat=number) for number in range(K)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))


def counting() -> Callable[[Json], str]:
    """Another answer each time, of another length."""
    numbers = itertools.count()
    return lambda body: "word " * (number := next(numbers)) + f"number {number}"


def chat_of(server: Server, **settings: Any) -> OpenAIChat:
    endpoint = Endpoint("here", server.url, None, EndpointSettings(prices=PRICES, **settings))
    return OpenAIChat("here/gpt-4o-mini", endpoint, "gpt-4o-mini", policy=QUICK)


async def drawn(chat: OpenAIChat, requests: list[ChatRequest] = DRAWS) -> list[Any]:
    try:
        return await asyncio.gather(*(chat.complete(request) for request in requests), return_exceptions=True)
    finally:
        await chat.aclose()


def usd(found: list[Any]) -> float:
    return sum(one.usage.cost_usd for one in found)


async def test_draws_that_wait_together_are_one_request_and_its_bill_is_shared_out() -> None:
    async with Server(answer=counting(), several=True) as server:
        found = await drawn(chat_of(server))
        alone = await drawn(chat_of(server), [replace(ASK, repeat=77)])
    assert [body.get("n") for body in server.bodies] == [K, None]
    assert server.bodies[0]["seed"] == 3
    assert [one.text for one in found] == [
        f"{'word ' * number}number {number}" if number else "number 0" for number in range(K)
    ]
    assert usd(found) + usd(alone) == pytest.approx(server.billed_usd)
    assert [one.usage.requests for one in found] == [1, 0, 0, 0, 0]
    assert [one.usage.input_tokens > 0 for one in found] == [True, False, False, False, False]
    lengths = [one.usage.output_tokens for one in found]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]
    assert found[0].usage.input_tokens == alone[0].usage.input_tokens


@pytest.mark.parametrize("gives", [1, 3])
async def test_an_endpoint_that_gives_fewer_answers_is_asked_for_the_rest_and_remembered(gives: int) -> None:
    async with Server(answer=counting(), several=True) as server:
        whole = server._chat

        def fewer(body: Json) -> Json:
            return whole({**body, "n": min(gives, body.get("n", 1))})

        server._chat = fewer  # type: ignore[method-assign]
        chat = chat_of(server)
        found = await drawn(chat)
        again = await drawn(chat_of(server))
    assert [body.get("n") for body in server.bodies] == [K] + [None] * (K - gives + K)
    assert len({one.text for one in (*found, *again)}) == 2 * K
    assert usd([*found, *again]) == pytest.approx(server.billed_usd)
    assert any("refuses n" in note for note in chat.notes)


REFUSALS = [
    error(400, "'n' must be at most 1.", param="n"),
    error(422, "Extra inputs are not permitted: n"),
    error(400, "Bad request."),
    error(500, "Only one completion choices is not supported: n_cmpl."),
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_an_endpoint_that_refuses_several_answers_is_asked_one_by_one(refusal: Fault) -> None:
    def fault(number: int, body: Json) -> Fault | None:
        return refusal if "n" in body else None

    async with Server(answer=counting(), fault=fault) as server:
        found = await drawn(chat_of(server))
        again = await drawn(chat_of(server))
    assert [body.get("n") for body in server.bodies] == [K] + [None] * (2 * K)
    assert len({one.text for one in (*found, *again)}) == 2 * K
    assert usd([*found, *again]) == pytest.approx(server.billed_usd)


async def test_only_what_is_alike_and_drawn_is_put_together() -> None:
    others = [
        replace(ASK, temperature=0.0),
        replace(ASK, temperature=0.0, repeat=1),
        replace(ASK, max_tokens=9),
        replace(ASK, messages=ASK.messages[1:]),
        # The second repetition of a trial.
        replace(ASK, repeat=1000),
        replace(ASK, repeat=1001),
    ]
    async with Server(several=True) as server:
        await drawn(chat_of(server), [*DRAWS[:2], *others])
        assert sorted(body.get("n", 1) for body in server.bodies) == [1, 1, 1, 1, 2, 2]
        server.bodies.clear()
        await drawn(chat_of(server), [replace(ASK, repeat=number) for number in range(10)])
        assert sorted(body.get("n", 1) for body in server.bodies) == [2, 8]
        server.bodies.clear()
        await drawn(chat_of(server, stream=True))
        assert [body.get("n") for body in server.bodies] == [None] * K


async def test_a_failing_request_fails_all_that_wait_for_it_and_is_counted_once() -> None:
    async with Server(fault=lambda number, body: TOO_LONG) as server:
        found = await drawn(chat_of(server))
        assert len(server.bodies) == 1
    assert all(type(one) is RequestError and one.usage == Usage() for one in found)
    async with Server(fault=lambda number, body: CUT if number else None, several=True) as server:
        chat = chat_of(server)
        await chat.complete(ASK)
        before = server.billed_usd
        cut = await drawn(chat)
        billed = server.billed_usd - before
        worst = [chat.worst_case(request).cost_usd for request in DRAWS]
    assert len(server.bodies) == 1 + 2
    assert all("cut the connection" in str(one) for one in cut)
    assert billed <= usd(cut) <= sum(one or 0.0 for one in worst)
    assert [one.usage.requests for one in cut] == [2, 0, 0, 0, 0]
    async with Server(fault=lambda number, body: NO_MODEL) as server:
        assert all(isinstance(one, BackendUnavailable) for one in await drawn(chat_of(server)))


async def test_a_reply_that_is_no_answer_fails_all_within_what_was_reserved() -> None:
    async with Server(several=True, extra={"choices": [{"message": None}] * K}) as server:
        chat = chat_of(server)
        found = await drawn(chat)
        worst = sum(chat.worst_case(request).cost_usd or 0.0 for request in DRAWS)
    assert all("no chat completion" in str(one) for one in found)
    assert server.billed_usd <= usd(found) <= worst


async def test_one_answer_that_was_filtered_is_that_ones_error_alone() -> None:
    reasons = iter(["stop", "content_filter", "stop", "length", "stop"])
    async with Server(answer=counting(), several=True, finish=lambda body: next(reasons)) as server:
        found = await drawn(chat_of(server))
    assert [isinstance(one, RequestError) for one in found] == [False, True, False, False, False]
    assert found[3].finish_reason == "length"
    # What was cut off took most of the tokens.
    assert found[3].usage.output_tokens > found[4].usage.output_tokens
    assert usd(found) == pytest.approx(server.billed_usd)


async def test_without_a_token_count_answers_are_counted_here_each_by_itself() -> None:
    async with Server(answer=counting(), several=True, usage=False) as server:
        chat = chat_of(server)
        found = await drawn(chat)
    assert [one.usage.output_tokens for one in found] == sorted(one.usage.output_tokens for one in found)
    assert found[0].usage.input_tokens > 0
    assert found[1].usage.input_tokens == 0
    assert any("5 answers" in note for note in chat.notes)


async def test_long_answers_that_are_all_equal_are_one_answer_of_one_seed() -> None:
    async with Server(answer=lambda body: "the same " * 40 + str(body["seed"]), several=True) as server:
        chat = chat_of(server)
        worst = sum(chat.worst_case(request).cost_usd or 0.0 for request in DRAWS)
        found = await drawn(chat)
    assert len({one.text for one in found}) == K
    assert [body.get("n") for body in server.bodies] == [K] + [None] * (K - 1)
    assert server.billed_usd <= usd(found) <= worst


async def test_who_stops_waiting_takes_no_answer_from_the_others() -> None:
    async with Server(answer=counting(), several=True, latency_seconds=0.1) as server:
        chat = chat_of(server)
        first, *others = [asyncio.create_task(chat.complete(request)) for request in DRAWS]
        while not server.bodies:
            await asyncio.sleep(0.005)
        first.cancel()
        found = await asyncio.gather(*others)
        assert len({one.text for one in found}) == K - 1
        assert first.cancelled()
        await chat.aclose()


async def test_answers_are_remembered_one_by_one_and_the_cap_holds(tmp_path: Path) -> None:
    async with Server(answer=counting(), several=True) as server:
        with Store.open(tmp_path / "advisor.db") as store:
            store.add_run(
                RunRow(
                    id="r",
                    created="2026-11-23T00:00:00+00:00",
                    kind="run",
                    scenario="s",
                    scenario_file="f",
                    scenario_hash="h",
                    options={},
                )
            )
            budget = Budget(0.1)
            chat = CachedChat(chat_of(server), store, "r", budget)
            first, second = [Meter(chat) for _ in range(2)]
            found = await first.complete_all(DRAWS[:3])
            more = await second.complete_all(DRAWS)
            await chat.aclose()
            assert store.billed_usd("r") == pytest.approx(server.billed_usd)
    assert [body.get("n") for body in server.bodies] == [3, 2]
    assert [one.text for one in more[:3]] == [one.text for one in found]
    assert len(set(second.response_keys)) == K
    assert budget.spent_usd == pytest.approx(server.billed_usd)
    assert all(isinstance(one, ChatResponse) and one.cached == (number < 3) for number, one in enumerate(more))


@given(
    output=st.integers(0, 5000),
    weights=st.lists(st.integers(0, 900), min_size=1, max_size=9),
    usd_out=st.floats(0, 100),
)
def test_shares_add_up_to_the_bill(output: int, weights: list[int], usd_out: float) -> None:
    prices = Prices(Rate(3.0, ((200, 6.0),)), Rate(usd_out), per_request=0.01)
    bill = Usage(1, 300, 100, output)
    bill = replace(bill, cost_usd=prices.cost(bill))
    parts = shared(bill, weights, 700, prices.cost)
    whole = sum(parts, Usage())
    assert replace(whole, cost_usd=0.0) == replace(bill, cost_usd=0.0)
    assert whole.cost_usd == pytest.approx(bill.cost_usd)
    assert all(part.output_tokens >= 0 and (part.cost_usd or 0) >= -1e-9 for part in parts)
    if output <= 700 * len(weights):
        assert len(weights) == 1 or max(part.output_tokens for part in parts) <= 700
    unknown = shared(replace(bill, cost_usd=None), weights, 700, lambda usage: None)
    assert all(part.cost_usd is None for part in unknown)
