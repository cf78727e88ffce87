import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.errors import RequestError
from backends.openai.chat import OpenAIChat
from backends.openai.endpoints import Endpoint
from backends.openai.failures import BilledError
from backends.openai.retries import Policy
from backends.openai.settings import EndpointSettings, TokenPrices
from backends.openai.tokens import count_text
from backends.types import ChatRequest, ChatResponse, Message, Tool, ToolCall, Usage
from tests.openai_server import Fault, Json, Server, error

QUICK = Policy(first_seconds=0.001, most_seconds=0.01)
ASK = ChatRequest((Message("system", "Be brief."), Message("user", "What is it?")))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))


def chat_of(server: Server, model: str = "gpt-4o-mini", **settings: Any) -> OpenAIChat:
    endpoint = Endpoint("here", server.url, None, EndpointSettings(**settings))
    return OpenAIChat(f"here/{model}", endpoint, model, policy=QUICK)


async def ask(server: Server, request: ChatRequest, model: str = "gpt-4o-mini", **settings: Any) -> ChatResponse:
    chat = chat_of(server, model, **settings)
    try:
        return await chat.complete(request)
    finally:
        await chat.aclose()


async def test_an_answer_carries_text_tokens_and_seconds() -> None:
    async with Server(answer=lambda body: "A dog.", latency_seconds=0.05) as server:
        answer = await ask(server, ASK)
    assert (answer.text, answer.finish_reason, answer.logprob, answer.tool_calls) == ("A dog.", "stop", None, ())
    assert answer.usage.requests == 1
    assert answer.usage.output_tokens == 3
    assert 0.05 <= answer.seconds < 5
    assert server.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
    ]
    assert "seed" not in server.bodies[0]


async def test_sampling_is_seeded_and_each_repetition_by_itself() -> None:
    warm = replace(ASK, temperature=0.7, seed=5, stop=("\n",))
    async with Server(answer=lambda body: "one\ntwo") as server:
        answer = await ask(server, warm)
        await ask(server, replace(warm, repeat=1))
        await ask(server, warm)
    seeds = [body["seed"] for body in server.bodies]
    assert seeds[0] == seeds[2] != seeds[1]
    assert (server.bodies[0]["temperature"], server.bodies[0]["stop"]) == (0.7, ["\n"])
    # This server ignores `stop`.
    assert answer.text == "one"


async def test_extra_fields_of_the_endpoint_go_into_every_request() -> None:
    async with Server() as server:
        await ask(server, ASK, extra_body='{"reasoning_effort": "low"}')
    assert server.bodies[0]["reasoning_effort"] == "low"


async def test_models_that_reason_get_room_for_it() -> None:
    async with Server() as server:
        await ask(server, ASK, model="gpt-6-luna")
        await ask(server, ASK, model="gpt-6-luna", reasoning_tokens=10)
        await ask(server, ASK, model="gpt-4.1-mini")
        await ask(server, ASK, model="openai/gpt-oss-20b")
        await ask(server, ASK, model="gpt-5-chat-latest")
    assert [body["max_tokens"] for body in server.bodies] == [256 + 4096, 266, 256, 256 + 4096, 256]


async def test_a_limit_that_is_too_large_is_one_error_and_not_an_endless_search() -> None:
    def fault(number: int, body: Json) -> Fault:
        name = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
        return error(400, f"{name} is too large: 256. This model supports at most 16.", param=name)

    async with Server(fault=fault) as server:
        with pytest.raises(RequestError, match="max_tokens is too large"):
            await ask(server, ASK)
    assert len(server.bodies) == 3


CALL = {"id": "c1", "type": "function", "function": {"name": "", "arguments": '{"word": "plum"}'}}


async def test_tools_go_there_and_back_under_names_the_protocol_allows() -> None:
    tools = tuple(
        Tool(name, "Look up.", '{"type": "object", "properties": {}}') for name in ("a.look_up", "a_look_up", "x" * 80)
    )

    def call_all(body: Json) -> Json:
        names = [tool["function"]["name"] for tool in body["tools"]]
        calls = [CALL | {"function": {"name": f"{name}:", "arguments": {"word": "plum"}}} for name in names]
        return {"role": "assistant", "content": None, "tool_calls": [{**call, "id": None} for call in calls]}

    before = ToolCall("a.look_up", "{}", "c0")
    history = (*ASK.messages, Message("assistant", "", (before,)), Message("tool", "a fruit", tool_call_id="c0"))
    async with Server(answer=call_all, finish=lambda body: "stop") as server:
        answer = await ask(server, ChatRequest(history, tools=tools, tool_choice="required"))
    assert answer.finish_reason == "tool_calls"
    assert [call.name for call in answer.tool_calls] == ["a.look_up", "a_look_up", "x" * 80]
    assert [json.loads(call.arguments) for call in answer.tool_calls] == [{"word": "plum"}] * 3
    assert [call.id for call in answer.tool_calls] == ["call_0", "call_1", "call_2"]
    body = server.bodies[0]
    sent = [tool["function"]["name"] for tool in body["tools"]]
    assert len(set(sent)) == 3
    assert all(len(name) <= 64 and name.replace("_", "").isalnum() for name in sent)
    assert body["tool_choice"] == "required"
    assert body["messages"][2]["tool_calls"][0]["function"]["name"] == sent[0]
    assert body["messages"][3] == {"role": "tool", "content": "a fruit", "tool_call_id": "c0"}


async def test_log_probabilities_are_those_of_the_answer_and_not_of_the_json_around_it() -> None:
    spelled = [('{"answer": "', -0.01), ("b", -0.5), ("lue", -0.25), ('"}', -0.02)]
    extra = {
        "choices": [
            {
                "message": {"role": "assistant", "content": '{"answer": "blue"}'},
                "finish_reason": "stop",
                "logprobs": {"content": [{"token": token, "logprob": logprob} for token, logprob in spelled]},
            }
        ]
    }
    async with Server(extra=extra) as server:
        answer = await ask(server, replace(ASK, choices=("red", "blue"), logprobs=True))
        free = await ask(server, replace(ASK, logprobs=True))
    assert answer.text == "blue"
    assert answer.logprob == pytest.approx(-0.75)
    assert free.logprob == pytest.approx(-0.78)


async def test_without_log_probabilities_nothing_is_claimed() -> None:
    async with Server() as server:
        answer = await ask(server, replace(ASK, logprobs=True))
    assert answer.logprob is None


async def test_cached_and_written_prompt_tokens_are_priced_as_such() -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 10,
        "total_tokens": 1510,
        "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
    }
    prices = {"*": TokenPrices(10.0, 100.0, 1.0)}
    async with Server(extra={"usage": usage}) as server:
        answer = await ask(server, ASK, prices=prices)
    # What is reasoned beside completion_tokens is in the total, and billed.
    assert answer.usage == Usage(1, 1000, 600, 510, pytest.approx((400 * 10 + 600 * 1 + 510 * 100) / 1e6))


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "9"}, {"prompt_tokens": True, "completion_tokens": -1}])
async def test_tokens_that_the_endpoint_does_not_count_are_counted_here(usage: object) -> None:
    async with Server(answer=lambda body: "A dog.", extra={"usage": usage}) as server:
        chat = chat_of(server)
        answer = await chat.complete(ASK)
        await chat.aclose()
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3 + 3 + 3 + 1 + 3 + 1 + 4, 3)
    assert "counted here" in chat.notes[0]


def refusing(*names: str, status: int = 400, text: str = "Unsupported parameter: '{}'.") -> Callable[..., Fault | None]:
    """A server that does not know these parameters."""

    def fault(number: int, body: Json) -> Fault | None:
        found = next((name for name in names if name in body or name in json.dumps(body)), None)
        return error(status, text.format(found)) if found else None

    return fault


async def test_refused_parameters_are_left_out_and_that_is_remembered() -> None:
    warm = replace(ASK, temperature=0.5, stop=("#",), logprobs=True)
    fault = refusing("temperature", "seed", "stop", "logprobs", "max_tokens")
    async with Server(answer=lambda body: "one # two", fault=fault) as server:
        first = await ask(server, warm)
        tries = len(server.bodies)
        second = await ask(server, warm)
        assert len(server.bodies) == tries + 1
    assert first.text == second.text == "one "
    assert set(server.bodies[-1]) == {"model", "messages", "max_completion_tokens"}
    assert tries == 6


async def test_a_parameter_that_a_model_has_no_longer_is_no_missing_model() -> None:
    text = "The model: 'temperature' is not available, it has been deprecated."
    gone = error(400, text, code="unsupported_parameter", param="temperature")
    async with Server(fault=lambda number, body: gone if "temperature" in body else None) as server:
        await ask(server, ASK)
    assert "temperature" not in server.bodies[-1]


async def test_what_is_remembered_is_told_and_forgotten_after_a_month(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server(fault=refusing("logprobs")) as server:
        chat = chat_of(server)
        await chat.complete(replace(ASK, logprobs=True))
        await chat.aclose()
        assert "refuses logprobs" in chat.notes[0]
        from backends.openai import capabilities

        capabilities._memory.cache_clear()
        assert "logprobs" in chat_of(server)._memory.refused
        capabilities._memory.cache_clear()
        later = capabilities.time.time() + 31 * 86400
        monkeypatch.setattr(capabilities.time, "time", lambda: later)
        assert chat_of(server)._memory.refused == frozenset()


@pytest.mark.parametrize("status", [400, 422, 500, 501])
async def test_a_schema_that_is_refused_is_asked_for_in_the_next_looser_way(status: int) -> None:
    text = "[{{'type': 'literal_error', 'loc': ('response_format', 'type'), 'msg': \"Input should be 'json_object'\"}}]"
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    fault = refusing("json_schema", status=status, text=text)
    async with Server(answer=lambda body: '{"a": 1}', fault=fault) as server:
        answer = await ask(server, replace(ASK, json_schema=schema))
        # Four ways were tried at most, none of them twice: such a 500 is not sent again.
        assert len(server.bodies) == 3
    assert json.loads(answer.text) == {"a": 1}
    body = server.bodies[-1]
    assert body["response_format"] == {"type": "json_object", "schema": json.loads(schema)}
    assert "valid under this JSON Schema" in body["messages"][0]["content"]
    assert body["messages"][0]["content"].startswith("Be brief.")


async def test_choices_are_asked_for_plainly_where_no_form_is_known() -> None:
    async with Server(answer=lambda body: "**Blue**.", fault=refusing("response_format")) as server:
        answer = await ask(server, replace(ASK, messages=ASK.messages[1:], choices=("red", "blue")))
    assert answer.text == "blue"
    assert server.bodies[-1]["messages"][0] == {
        "role": "system",
        "content": "Answer with exactly one of the following, and nothing else:\n- red\n- blue",
    }


async def test_an_answer_outside_the_choices_is_an_answer() -> None:
    async with Server(answer=lambda body: "green, I think", fault=refusing("response_format")) as server:
        answer = await ask(server, replace(ASK, choices=("red", "blue")))
    assert answer.text == "green, I think"


async def test_an_empty_answer_is_no_sign_that_a_form_was_passed_over() -> None:
    async with Server(answer=lambda body: " ") as server:
        chat = chat_of(server)
        for _ in range(2):
            assert not (await chat.complete(replace(ASK, choices=("red", "blue")))).text.strip()
        await chat.aclose()
    assert "response_format" in server.bodies[1]


async def test_labels_too_many_for_a_schema_are_within_the_worst_case() -> None:
    async with Server(answer=lambda body: "7") as server:
        chat = chat_of(server)
        request = replace(ASK, choices=tuple(str(number) for number in range(1000)))
        worst = chat.worst_case(request)
        answer = await chat.complete(request)
        await chat.aclose()
    sent = "".join(message["content"] for message in server.bodies[0]["messages"])
    assert answer.text == "7"
    assert worst.input_tokens >= count_text(sent, "gpt-4o-mini")


async def test_an_endpoint_that_passes_over_the_form_is_found_out() -> None:
    async with Server(answer=lambda body: "It is blue.") as server:
        chat = chat_of(server)
        request = replace(ASK, choices=("red", "blue"))
        assert (await chat.complete(request)).text == "It is blue."
        await chat.complete(request)
        await chat.aclose()
    assert "response_format" in server.bodies[0]
    assert "response_format" not in server.bodies[1]
    assert "- blue" in server.bodies[1]["messages"][0]["content"]


async def test_a_refusal_of_the_model_is_its_answer_and_says_nothing_about_the_endpoint() -> None:
    message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    async with Server(answer=lambda body: message) as server:
        chat = chat_of(server)
        assert (await chat.complete(replace(ASK, choices=("a", "b")))).text == "I cannot help with that."
        await chat.aclose()
        assert not chat.notes


async def test_without_a_named_culprit_the_one_that_makes_the_difference_is_learnt() -> None:
    fault = refusing("seed", text="Bad Request")
    async with Server(fault=fault) as server:
        chat = chat_of(server)
        await chat.complete(replace(ASK, temperature=1.0, logprobs=True, stop=("#",)))
        await chat.aclose()
        assert chat._memory.refused == {"seed"}
    assert "logprobs" in server.bodies[-1]


async def test_what_no_change_helps_is_one_error_with_the_first_reason() -> None:
    async with Server(fault=lambda number, body: error(400, f"You may not ask this, seed {number}.")) as server:
        with pytest.raises(RequestError, match="You may not ask this, seed 0") as caught:
            await ask(server, replace(ASK, temperature=1.0, logprobs=True))
        assert not isinstance(caught.value, BilledError)
        assert len(server.bodies) <= 4


async def test_tools_that_are_refused_are_remembered_and_the_request_fails() -> None:
    tool = Tool("look_up", "", '{"type": "object"}')
    fault = refusing("tools", "tool_choice", text="{} is not supported by this model")
    async with Server(fault=fault) as server:
        chat = chat_of(server)
        assert chat.native_tools
        with pytest.raises(RequestError, match="prompted form"):
            await chat.complete(replace(ASK, tools=(tool,)))
        assert not chat.native_tools
        await chat.complete(ASK)
        await chat.aclose()
        assert chat_of(server, tools=True).native_tools
        assert not chat_of(server, model="other", tools=False).native_tools


async def test_a_server_that_passes_over_tools_is_found_out_where_a_call_is_a_must() -> None:
    tools = (Tool("look_up", "", '{"type": "object"}'),)
    async with Server(answer=lambda body: "I would look it up.") as server:
        chat = chat_of(server)
        await chat.complete(replace(ASK, tools=tools))
        assert chat.native_tools
        server.finish = lambda body: "length"
        await chat.complete(replace(ASK, tools=tools, tool_choice="required"))
        assert chat.native_tools
        server.finish = lambda body: "stop"
        answer = await chat.complete(replace(ASK, tools=tools, tool_choice="required"))
        await chat.aclose()
    assert answer.text == "I would look it up."
    assert not chat.native_tools


async def test_a_limit_that_is_ignored_is_given_by_its_other_name() -> None:
    def answer(body: Json) -> str:
        return "word " * min(2000, body.get("max_completion_tokens", 2000) - 1)

    async with Server(answer=answer) as server:
        chat = chat_of(server)
        await chat.complete(ASK)
        second = await chat.complete(ASK)
        await chat.aclose()
    assert second.usage.output_tokens <= 256
    assert "max_tokens" not in server.bodies[1]


async def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "A "}, {"type": "text", "text": "dog."}]
    async with Server(extra={"choices": [{"message": {"content": parts}, "finish_reason": None}]}) as server:
        answer = await ask(server, ASK)
    assert (answer.text, answer.finish_reason) == ("A dog.", "stop")


async def test_the_cost_and_the_bound_are_known_before_and_after() -> None:
    prices = {"*": TokenPrices(1.0, 2.0)}
    async with Server() as server:
        chat = chat_of(server, prices=prices)
        answer = await chat.complete(ASK)
        await chat.aclose()
    worst = chat.worst_case(ASK)
    assert chat.billed
    assert answer.usage.cost_usd == pytest.approx(server.billed_usd) == pytest.approx(chat.price(answer.usage))
    assert worst.cost_usd == chat.price(worst)
    assert worst.cost_usd is not None
    assert answer.usage.cost_usd is not None
    assert worst.cost_usd > 2 * answer.usage.cost_usd
    assert worst.requests == 2


async def test_money_leaves_the_house_unless_it_is_known_not_to() -> None:
    async with Server() as server:
        assert not chat_of(server).billed
        assert chat_of(server).price(Usage(1, 1, 0, 1)) is None
        assert not chat_of(server, prices={"*": TokenPrices(0.0, 0.0)}).billed
    far = Endpoint("far", "https://models.example.com/v1", None)
    assert OpenAIChat("far/m", far, "m").billed
    free = replace(far, settings=EndpointSettings(prices={"m": TokenPrices(0.0, 0.0)}))
    assert not OpenAIChat("far/m", free, "m").billed
    assert OpenAIChat("far/m", free, "m").price(Usage(1, 9, 0, 9)) == 0.0
    proxy = Endpoint("proxy", "http://127.0.0.1:4000/v1", "PROXY_KEY")
    assert OpenAIChat("proxy/m", proxy, "m").billed
    free = replace(proxy, settings=EndpointSettings(prices={"m": TokenPrices(0.0, 0.0)}))
    assert not OpenAIChat("proxy/m", free, "m").billed


async def test_one_connection_serves_all_models_of_an_endpoint_and_is_closed_by_the_last() -> None:
    async with Server(latency_seconds=0.01) as server:
        chats = [chat_of(server, model, max_concurrency=3) for model in ("a", "b")]
        await asyncio.gather(*(chat.complete(ASK) for chat in chats for _ in range(10)))
        assert server.most_active <= 3
        one, other = (chat._connection for chat in chats)
        assert one is other
        await chats[0].aclose()
        await chats[1].complete(ASK)
        await chats[1].aclose()
        await chats[1].aclose()
        # And it opens again.
        await chats[0].complete(ASK)
        await chats[0].aclose()


async def test_no_one_is_told_the_organisation_but_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai-only")
    async with Server() as server:
        await ask(server, ASK)
    assert "secret" not in str(server.request_headers)
    assert "sk-" not in str(server.request_headers)


async def test_probabilities_never_exceed_one() -> None:
    content = [{"token": "A", "logprob": -0.1}, {"token": " dog.", "logprob": -0.2}]
    choice = {"message": {"content": "A dog."}, "finish_reason": "stop", "logprobs": {"content": content}}
    async with Server(extra={"choices": [choice]}) as server:
        answer = await ask(server, replace(ASK, logprobs=True))
    assert answer.logprob is not None
    assert math.exp(answer.logprob) <= 1.0
