"""What a script can make the scripted model say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends.errors import RequestError
from backends.scripted import ScriptedChat
from backends.types import ChatRequest, ChatResponse, Message, Tool, ToolCall

ADD = Tool("add", "Add two numbers.", json.dumps({"type": "object", "properties": {"a": {"type": "number"}}}))


async def said(rules: list[dict[str, Any]], *messages: Message, script: Any = None, **request: Any) -> ChatResponse:
    chat = ScriptedChat("scripted/x", {"rules": rules, "native_tools": True, **(script or {})})
    return await chat.complete(ChatRequest(messages or (Message("user", "3 plus 4"),), **request))


CALLS = {
    "when": r"(\d) plus (\d)",
    "calls": [
        {"name": "add", "arguments": {"b": r"\2", "a": r"\1", "list": [r"\1", 2, {"deep": r"\2"}]}},
        {"name": "add"},
    ],
}


async def test_a_rule_asks_for_tools_with_what_it_matched() -> None:
    response = await said([CALLS], tools=(ADD,))
    assert response.finish_reason == "tool_calls"
    assert response.text == ""
    assert [call.id for call in response.tool_calls] == ["call_1", "call_2"]
    assert response.tool_calls[0] == ToolCall(
        "add", '{"a": "3", "b": "4", "list": ["3", 2, {"deep": "4"}]}', "call_1"
    ), "canonical: keys in order"
    assert response.tool_calls[1].arguments == "{}"


@pytest.mark.parametrize("request_", [{}, {"tools": (ADD,), "tool_choice": "none"}])
async def test_no_call_is_asked_for_where_none_can_be_made(request_: dict[str, Any]) -> None:
    response = await said([CALLS, {"answer": "seven"}], **request_)
    assert (response.text, response.tool_calls, response.finish_reason) == ("seven", (), "stop")


async def test_a_model_without_tools_refuses_them() -> None:
    with pytest.raises(RequestError, match="takes no tools"):
        await said([CALLS], tools=(ADD,), script={"native_tools": False})


async def test_a_rule_can_wait_for_a_tools_result() -> None:
    rules = [{"role": "tool", "when": r"(\d+)", "answer": r"it is \1"}, CALLS]
    asked = Message("user", "3 plus 4")
    assert (await said(rules, asked, tools=(ADD,))).tool_calls
    turn = Message("assistant", "", tool_calls=(ToolCall("add", "{}", "call_1"),))
    answer = await said(rules, asked, turn, Message("tool", "7", tool_call_id="call_1"), tools=(ADD,))
    assert answer.text == "it is 7"


async def test_definitions_of_tools_and_earlier_calls_are_paid_for() -> None:
    plain = await said([{"answer": "x"}])
    with_tools = await said([{"answer": "x"}], tools=(ADD,))
    assert (
        with_tools.usage.input_tokens
        == plain.usage.input_tokens + len(["add", "Add", "two", "numbers", "type", "object"]) + 4
    )
    turn = Message("assistant", "", tool_calls=(ToolCall("add", '{"a": 1}'),))
    longer = await said([{"answer": "x"}], Message("user", "3 plus 4"), turn)
    assert longer.usage.input_tokens == plain.usage.input_tokens + 3


async def test_answers_go_by_the_seed_only_when_they_are_sampled() -> None:
    rules = [{"answers": ["a", "b", "c"]}]
    warm = [(await said(rules, temperature=0.7, seed=seed)).text for seed in range(4)]
    cold = [(await said(rules, seed=seed)).text for seed in range(4)]
    assert (warm, cold) == (["a", "b", "c", "a"], ["a", "a", "a", "a"])


async def test_a_log_probability_is_told_when_it_is_wanted() -> None:
    rules = [{"answer": "x", "logprob": -0.1}]
    assert (await said(rules, logprobs=True)).logprob == -0.1
    assert (await said(rules)).logprob is None
    assert (await said([{"answer": "x"}], logprobs=True)).logprob is None
