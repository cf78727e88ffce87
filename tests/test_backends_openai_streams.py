"""Answers that are streamed: the same as in one piece, with the time to the first token, and whole or an error."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from backends.errors import RequestError
from backends.meter import Meter
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.failures import BilledError
from backends.openai.retries import Policy
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.types import ChatRequest, ChatResponse, Message, Tool
from evals.runner import Runner, Work
from evals.scorers.text import Exact
from evals.store import RunRow, Store
from evals.task import Sample
from tests import openai_server as wire
from tests.openai_server import Fault, Json, Server, error

QUICK = Policy(first_seconds=0.001, most_seconds=0.01, attempts=4)
ASK = ChatRequest((Message("user", "What is it, and why? Tell me all."),), max_tokens=40)
TOOL = Tool("look_up", "Look something up.", '{"type": "object", "properties": {"word": {"type": "string"}}}')


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))


def chat_at(server: Server, **given: Any) -> OpenAIChat:
    settings = EndpointSettings(**{"stream": True, "prices": {"*": TokenPrices(1.0, 2.0)}, **given})
    return OpenAIChat("here/gpt-4o-mini", Endpoint("here", server.url, None, settings), "gpt-4o-mini", policy=QUICK)


async def ask(server: Server, request: ChatRequest = ASK, **given: Any) -> ChatResponse:
    chat = chat_at(server, **given)
    try:
        return await chat.complete(request)
    finally:
        await chat.aclose()


@pytest.mark.parametrize(
    "request_",
    [
        ASK,
        replace(ASK, choices=("red", "blue")),
        replace(ASK, tools=(TOOL,)),
        replace(ASK, messages=ASK.messages[:1] * 3),
    ],
)
async def test_a_streamed_answer_is_what_it_would_be_in_one_piece(request_: ChatRequest) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "ä"}'}}

    def answer(body: Json) -> str | Json:
        return (
            {"role": "assistant", "content": None, "tool_calls": [call]}
            if "tools" in body
            else wire.form_answer(body) or "So.\n\n漢字."
        )

    async with Server(answer=answer) as server:
        whole, streamed = await ask(server, request_, stream=False), await ask(server, request_)
        assert [bool(body.get("stream")) for body in server.bodies] == [False, True]
    assert replace(streamed, seconds=0.0, first_token_seconds=None) == replace(whole, seconds=0.0)
    assert whole.first_token_seconds is None
    assert streamed.first_token_seconds is not None
    assert 0 < streamed.first_token_seconds <= streamed.seconds


async def test_the_first_token_is_timed_when_it_comes_and_not_when_the_last_does() -> None:
    @dataclass
    class Slow(Server):
        """Sends an event a tenth of a second; the first ones say nothing that a user sees."""

        async def other(self, method: str, path: str, headers: Mapping[str, str], raw: bytes) -> Fault | None:
            self.bodies.append(json.loads(raw))
            return None

        async def _reply(self, path: str, headers: dict[str, str], body: Json, writer: asyncio.StreamWriter) -> bool:
            writer.write(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            for event in self._pieces(self._chat(body), body).split("\n\n")[:-1]:
                writer.write(f"{event}\n\n".encode())
                await writer.drain()
                await asyncio.sleep(0.1)
            return False

    async with Slow(answer=lambda body: "twelve chars") as server:
        found = await ask(server)
    assert found.text == "twelve chars"
    assert found.first_token_seconds is not None
    assert 0.05 < found.first_token_seconds < found.seconds - 0.15


async def test_missing_usage_is_counted_here_and_said() -> None:
    async with Server(usage=False) as server:
        chat = chat_at(server)
        found = await chat.complete(ASK)
        await chat.aclose()
    assert found.usage.output_tokens > 0
    assert "without a token count" in chat.notes[0]


@pytest.mark.parametrize("feature", ["stream_options", "stream"])
async def test_an_endpoint_that_refuses_to_stream_is_asked_for_what_it_takes(feature: str) -> None:
    refusal = error(400, f"Unknown parameter: '{feature}'.", param=feature)
    async with Server(fault=lambda number, body: refusal if feature in body else None) as server:
        first, second = await ask(server), await ask(server)
    assert first.text == second.text == ASK.messages[0].content
    assert len(server.bodies) == 3, "learnt once"
    assert (second.first_token_seconds is None) == (feature == "stream")


async def test_an_endpoint_that_passes_over_the_wish_answers_in_one_piece() -> None:
    class Deaf(Server):
        def _pieces(self, whole: Json, body: Json) -> str:
            return json.dumps(whole)

    async with Deaf() as server:
        server.headers = {"content-type": "application/json"}
        found = await ask(server)
    assert found.text == ASK.messages[0].content
    assert found.first_token_seconds is None


BROKEN_PIECE = 'data: {"choices": [{"index": 0, "delta": {"content": "So"}}]}\n\n'
EVENTS = {"content-type": "text/event-stream"}
CUTS = {
    "cut in the middle": wire.CUT,
    "no reason to end": Fault(body=BROKEN_PIECE + "data: [DONE]\n\n", headers=EVENTS),
    "half an event": Fault(body=BROKEN_PIECE + 'data: {"choices": [{"ind\n\n', headers=EVENTS),
    "an error in the middle": Fault(
        body=BROKEN_PIECE + 'data: {"error": {"message": "overloaded"}}\n\n', headers=EVENTS
    ),
    "something else": Fault(body="data: [1, 2]\n\n", headers=EVENTS),
}


@pytest.mark.parametrize("name", CUTS)
async def test_a_stream_that_is_cut_is_counted_in_full_said_and_asked_again_once(name: str) -> None:
    async with Server(fault=lambda number, body: CUTS[name] if number == 0 else None) as server:
        chat = chat_at(server)
        found = await chat.complete(ASK)
        await chat.aclose()
    assert found.text == ASK.messages[0].content
    assert len(server.bodies) == found.usage.requests == 2
    assert found.usage.cost_usd is not None
    assert found.usage.cost_usd > server.billed_usd
    assert "1 answer of here/gpt-4o-mini got cut off" in chat.notes[0]


async def test_a_stream_that_is_always_cut_is_an_error_with_its_cost() -> None:
    async with Server(fault=lambda number, body: wire.CUT if number else None) as server:
        chat = chat_at(server)
        await chat.complete(ASK)
        with pytest.raises(BilledError, match="cut the stream before the answer was complete") as caught:
            await chat.complete(ASK)
        await chat.aclose()
    assert caught.value.usage.cost_usd == chat.worst_case(ASK).cost_usd


async def test_an_error_before_the_first_piece_costs_nothing() -> None:
    refused = Fault(body='data: {"error": {"message": "prompt is too long", "code": 400}}\n\n', headers=EVENTS)
    async with Server(fault=lambda number, body: refused) as server:
        with pytest.raises(RequestError, match="too long") as caught:
            await ask(server)
    assert caught.value.usage.requests == 0


class _Fixed:
    """A model whose calls take a second each and begin to answer after a quarter."""

    name, fingerprint, billed, native_tools = "fixed/m", "f", False, False

    async def complete(self, request: ChatRequest) -> ChatResponse:
        from backends.types import Usage

        return ChatResponse("yes", Usage(1, 1, 0, 1), 1.0, first_token_seconds=0.25)


async def test_a_user_waits_for_all_calls_but_the_last_and_for_its_first_token(tmp_path: Path) -> None:
    chat: Any = _Fixed()
    meter = Meter(chat)
    await meter.complete(ASK)
    await meter.complete(ASK)
    assert (meter.seconds, meter.first_token_seconds) == (2.0, 1.25)
    await meter.complete_all([ASK, ASK])
    assert (meter.seconds, meter.first_token_seconds) == (3.0, None), "several answers have to be weighed first"

    async def solve(sample: Sample, models: Meter) -> str:
        return (await models.complete(ASK)).text

    with Store.open(tmp_path / "advisor.db") as store:
        store.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
        await Runner(store, "r", Exact(), lambda trial: None).run(
            Work("c", solve, chat, "test"), [Sample("a", "x", "yes")]
        )
        (trial,) = store.trials("r")
    assert (trial.seconds, trial.first_token_seconds) == (1.0, 0.25)
