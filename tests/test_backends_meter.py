"""What a meter counts: every model, side by side or one after another, within steps, and what failed too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.errors import RequestError
from backends.meter import Helpers, Meter
from backends.scripted import ScriptedChat, ScriptedEmbedder
from backends.types import ChatRequest, Message

RULES = [{"when": "refuse", "error": "refused"}, {"when": "(?s)(.*)", "answer": r"\1"}]


def chat(name: str = "scripted/own") -> ScriptedChat:
    return ScriptedChat(name, {"rules": RULES})


def ask(text: str, repeat: int = 0) -> ChatRequest:
    return ChatRequest((Message("user", text),), repeat=repeat)


async def test_requests_side_by_side_take_as_long_as_the_slowest() -> None:
    meter = Meter(chat())
    responses = await meter.complete_all([ask("one"), ask("one two three")])
    assert [response.text for response in responses] == ["one", "one two three"]
    assert meter.seconds == responses[1].seconds
    assert meter.usage == responses[0].usage + responses[1].usage
    assert len(meter.response_keys) == 2


async def test_what_was_asked_beside_a_failure_is_paid_for() -> None:
    meter = Meter(chat())
    with pytest.raises(RequestError, match="refused"):
        await meter.complete_all([ask("refuse"), ask("one")])
    assert meter.usage.requests == 1
    assert meter.seconds > 0


async def test_another_model_is_metered_as_the_own_one() -> None:
    opened = []

    def other(name: str) -> ScriptedChat:
        opened.append(name)
        return chat(name)

    meter = Meter(chat(), helpers=Helpers(chat=other))
    await meter.complete(ask("one"), on="scripted/dear")
    await meter.complete(ask("one"), on="scripted/own")
    assert opened == ["scripted/dear"]
    assert meter.usage.requests == 2


async def test_a_model_that_was_not_opened_is_a_failed_request() -> None:
    with pytest.raises(RequestError, match="scripted/dear was not opened"):
        await Meter(chat()).complete(ask("one"), on="scripted/dear")
    with pytest.raises(RequestError, match="cross-encoder"):
        await Meter(chat()).rerank("q", ["a"], on="local/rerank")


async def test_steps_hold_what_was_asked_within_them_and_the_innermost_counts() -> None:
    meter = Meter(chat(), ScriptedEmbedder())
    with meter.step("outer") as outer:
        await meter.embed(["a b c"])
        with meter.step("inner") as inner:
            inner.output = (await meter.complete(ask("one two"))).text
        meter.spend_seconds(0.5)
        outer.output = "done"
    assert [(step.name, step.output, step.usage.requests) for step in meter.steps] == [
        ("inner", "one two", 1),
        ("outer", "done", 1),
    ]
    assert sum(step.seconds for step in meter.steps) == pytest.approx(meter.seconds)


async def test_a_step_that_fails_is_remembered_with_its_cost() -> None:
    meter = Meter(chat())

    async def work() -> None:
        with meter.step("broken"):
            await meter.complete(ask("one"))
            await meter.complete(ask("refuse"))

    with pytest.raises(RequestError):
        await work()
    assert [(step.name, step.usage.requests) for step in meter.steps] == [("broken", 1)]


async def test_requests_can_be_rewritten_and_repetitions_are_told_apart() -> None:
    plain, warm, again = (
        Meter(chat()),
        Meter(chat(), rewrite=lambda request: replace(request, temperature=0.7)),
        Meter(chat(), repeat=1),
    )
    for meter in (plain, warm, again):
        await meter.complete_all([ask("one"), ask("one", repeat=1)])
    keys = {key for meter in (plain, warm, again) for key in meter.response_keys}
    assert len(keys) == 6
