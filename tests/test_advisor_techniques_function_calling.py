"""Function calling on scripted models: the loop with its parallel calls, errors and limit; calls as answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advisor.techniques import registry
from advisor.techniques.base import Ablatable, Given
from advisor.techniques.function_calling import FunctionCalling
from advisor.tools.process import describe_file
from backends.errors import RequestError
from backends.types import ChatRequest, Message, Tool, ToolCall
from evals.scorers.tool_calls import ToolCalls
from evals.task import Sample, Task, Toolbox
from tests.techniques import TASK, Bench, violations

SOURCE = '''
"""A calculator and a tool that breaks."""


def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


def divide(a: float, b: float) -> float:
    """Divide a by b."""
    return a / b
'''


@pytest.fixture(scope="module")
def calculator(tmp_path_factory: pytest.TempPathFactory) -> Toolbox:
    path = tmp_path_factory.mktemp("tools") / "tools.py"
    path.write_text(SOURCE, encoding="utf-8")
    return Toolbox(describe_file(path).tools, path)


def sums(toolbox: Toolbox, **changes: Any) -> Task:
    train = tuple(Sample(f"t{n}", f"What is {n} and {n}?", str(2 * n)) for n in range(20))
    task = Task("sums", "Work it out.", train, train[:3], (Sample("s", "What is 3 and 4?", "7"),), tools=toolbox)
    return dataclasses.replace(task, **changes)


def native(*rules: Mapping[str, Any]) -> dict[str, Any]:
    return {"native_tools": True, "rules": list(rules), "default": "no idea"}


def calls(*found: tuple[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "arguments": arguments} for name, arguments in found]


async def solved(
    bench: Bench, technique: FunctionCalling, task: Task, sample: Sample | None = None
) -> tuple[str, list[tuple[str, str]]]:
    """The answer to the task's test sample, and the steps that led to it."""
    fitted = await bench.fit(technique, task)
    meter, before = bench.meter(), len(bench.chat.requests)
    answer = await fitted.solve(sample or task.test[0], meter)
    assert sum(step.usage.requests for step in meter.steps) == len(bench.chat.requests) - before
    return answer, [(step.name, step.output) for step in meter.steps]


async def test_parallel_calls_are_made_and_their_results_told(tmp_path: Path, calculator: Toolbox) -> None:
    asked = calls(("add", {"a": 3, "b": 4}), ("divide", {"a": 1, "b": 4}))
    bench = Bench(
        tmp_path, native({"role": "tool", "when": r"^0\.25$", "answer": "7"}, {"when": "3 and 4", "calls": asked})
    )
    answer, steps = await solved(bench, FunctionCalling(), sums(calculator))
    assert answer == "7"
    assert [name for name, _ in steps] == ["turn 1", "tool add", "tool divide", "turn 2"]
    assert [output for _, output in steps[1:]] == ["7.0", "0.25", "7"]
    conversation = bench.chat.requests[-1].messages
    assert conversation[2:] == (
        Message(
            "assistant",
            "",
            tool_calls=(
                ToolCall("add", '{"a": 3, "b": 4}', "call_1"),
                ToolCall("divide", '{"a": 1, "b": 4}', "call_2"),
            ),
        ),
        Message("tool", "7.0", tool_call_id="call_1"),
        Message("tool", "0.25", tool_call_id="call_2"),
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("divide", {"a": 7, "b": 0}), "error: ZeroDivisionError: float division by zero"),
        (("add", {"a": 3}), "error: the arguments of add do not fit: 'b' is a required property"),
        (("subtract", {"a": 3}), "error: there is no tool 'subtract'; the tools are add, divide"),
    ],
)
async def test_an_error_is_told_and_recovered_from(
    wrong: tuple[str, Mapping[str, Any]], said: str, tmp_path: Path, calculator: Toolbox
) -> None:
    bench = Bench(
        tmp_path,
        native(
            {"role": "tool", "when": "error: ", "calls": calls(("add", {"a": 3, "b": 4}))},
            {"role": "tool", "when": r"^(\d+)\.0$", "answer": r"\1"},
            {"when": "3 and 4", "calls": calls(wrong)},
        ),
    )
    answer, steps = await solved(bench, FunctionCalling(), sums(calculator))
    assert answer == "7"
    assert steps[1] == (f"tool {wrong[0]}", said)
    assert [name for name, _ in steps] == ["turn 1", f"tool {wrong[0]}", "turn 2", "tool add", "turn 3"]


@pytest.mark.parametrize("most", [1, 3])
async def test_calls_are_limited_and_then_the_answer_is_forced(most: int, tmp_path: Path, calculator: Toolbox) -> None:
    two = calls(("add", {"a": 1, "b": 1}), ("add", {"a": 2, "b": 2}))
    bench = Bench(tmp_path, native({"calls": two}, {"answer": "enough"}))
    answer, steps = await solved(bench, FunctionCalling(max_calls=most), sums(calculator))
    assert answer == "enough"
    assert [name for name, _ in steps].count("tool add") == most
    assert [request.tool_choice for request in bench.chat.requests] == ["auto"] * ((most + 1) // 2) + ["none"]
    assert all(request.tools for request in bench.chat.requests), "the conversation speaks of tools to its end"
    ids = [message.tool_call_id for message in bench.chat.requests[-1].messages if message.role == "tool"]
    assert ids == [f"call_{number}" for number in range(1, most + 1)]


async def test_an_answer_without_calls_is_the_answer(tmp_path: Path, calculator: Toolbox) -> None:
    answer, steps = await solved(Bench(tmp_path, native({"answer": "7"})), FunctionCalling(), sums(calculator))
    assert (answer, steps) == ("7", [("turn 1", "7")])


async def test_answers_keep_to_labels_and_schema(tmp_path: Path, calculator: Toolbox) -> None:
    bench = Bench(tmp_path, native({"answer": "7"}))
    await solved(bench, FunctionCalling(), sums(calculator, labels=("7", "8")))
    assert bench.chat.requests[-1].choices == ("7", "8")
    await solved(bench, FunctionCalling(), sums(calculator, output_schema='{"type": "integer"}'))
    assert bench.chat.requests[-1].json_schema == '{"type": "integer"}'


CALL_ADD = json.dumps({"calls": calls(("add", {"a": 3, "b": 4}))})


async def test_the_prompted_form_goes_through_the_same_loop(tmp_path: Path, calculator: Toolbox) -> None:
    bench = Bench(
        tmp_path,
        {
            "rules": [
                {"when": r"1\. add: (\d+)", "answer": r'{"answer": "\1"}'},
                {"when": "3 and 4", "answer": CALL_ADD},
            ]
        },
    )
    answer, steps = await solved(bench, FunctionCalling(max_calls=1), sums(calculator))
    assert answer == "7"
    assert [name for name, _ in steps] == ["turn 1", "tool add", "turn 2"]
    first, last = bench.chat.requests
    assert "add(a: number, b: number): Add two numbers." in first.messages[0].content
    assert not first.tools
    assert allows(first, json.loads(CALL_ADD))
    assert not allows(last, json.loads(CALL_ADD)), "calls are used up"
    assert allows(last, {"answer": "7"})
    assert not allows(last, {"answer": "7" * 33}), "train answers are short"
    assert last.messages[-1].content.splitlines()[-1] == "No more calls can be made: give the answer."


def allows(request: ChatRequest, value: Any) -> bool:
    return jsonschema.Draft202012Validator(json.loads(request.json_schema or "false")).is_valid(value)


async def test_the_prompted_forms_answer_keeps_to_the_labels(tmp_path: Path, calculator: Toolbox) -> None:
    bench = Bench(tmp_path, {"rules": [{"answer": '{"answer": "7"}'}]})
    answer, _ = await solved(bench, FunctionCalling(), sums(calculator, labels=("7", "8")))
    assert answer == "7"
    assert allows(bench.chat.requests[-1], {"answer": "8"})
    assert not allows(bench.chat.requests[-1], {"answer": "9"})


async def test_a_prompted_answer_under_a_schema_is_canonical_json(tmp_path: Path, calculator: Toolbox) -> None:
    bench = Bench(tmp_path, {"rules": [{"answer": '{"answer": {"b": 1, "a": [2]}}'}]})
    answer, _ = await solved(bench, FunctionCalling(), sums(calculator, output_schema='{"type": "object"}'))
    assert answer == '{"a": [2], "b": 1}'


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"Let me see.\n```json\n{CALL_ADD}\n```", "7.0"),
        ('So {"answer": 7} it is', "7"),
        ("It is seven.", "It is seven."),
    ],
)
async def test_without_a_constraint_what_is_written_is_read_leniently(
    text: str, answer: str, tmp_path: Path, calculator: Toolbox
) -> None:
    bench = Bench(tmp_path, {"rules": [{"when": r"add: (.*)", "answer": r"\1"}, {"when": "3 and 4", "answer": text}]})
    found, _ = await solved(bench, FunctionCalling(constrained=False), sums(calculator))
    assert found == answer
    assert bench.chat.requests[0].json_schema is None


async def test_right_results_can_be_given_in_place_of_calls(tmp_path: Path, calculator: Toolbox) -> None:
    bench = Bench(tmp_path, native({"needs": r"- 7\.0", "answer": "7"}, {"calls": calls(("add", {}))}))
    task = sums(calculator, labels=("7", "8"))
    fitted = await bench.fit(FunctionCalling(), task)
    assert isinstance(fitted, Ablatable)
    assert fitted.accepts == {"tool_results"}
    assert await fitted.solve_given(task.test[0], bench.meter(), Given(tool_results=("7.0",))) == "7"
    (request,) = bench.chat.requests
    assert (request.tools, request.choices) == ((), ("7", "8"))


async def test_executed_tools_keep_the_contract(tmp_path: Path, calculator: Toolbox) -> None:
    asked = calls(("add", {"a": 3, "b": 4}))
    script = native({"role": "tool", "answer": "7"}, {"when": "3 and 4", "calls": asked})
    assert await violations(FunctionCalling(), tmp_path, sums(calculator), script=script) == []


async def test_a_saved_loop_runs_the_tools_it_was_fitted_with(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text(SOURCE, encoding="utf-8")
    task = sums(Toolbox(describe_file(path).tools, path))
    asked = calls(("add", {"a": 3, "b": 4}))
    bench = Bench(tmp_path / "bench", native({"role": "tool", "when": "(.*)", "answer": r"\1"}, {"calls": asked}))
    (await bench.fit(FunctionCalling(), task)).save(tmp_path)
    path.write_text(SOURCE.replace("a + b", "a - b"), encoding="utf-8")
    assert await registry.load_fitted(tmp_path).solve(task.test[0], bench.meter()) == "-1.0"


WEATHER = Tool(
    "get.weather",
    "The weather of a place.",
    json.dumps({"type": "object", "properties": {"city": {"type": "string"}, "day": {"type": "string"}}}),
)
MUSIC = Tool("play", "Play music.", json.dumps({"type": "object", "properties": {"track": {"type": "string"}}}))
CITIES = ["Rome", "Oslo", "Lima", "Kyiv", "Bonn", "Cork", "Nice"]


def target(city: str) -> str:
    return json.dumps([{"arguments": {"city": city}, "name": "get.weather"}])


def weather(**changes: Any) -> Task:
    train = tuple(Sample(f"t{n}", f"weather number {n} in {city}", target(city)) for n, city in enumerate(CITIES * 3))
    dev = tuple(Sample(f"d{n}", f"forecast {n} for {city}", target(city)) for n, city in enumerate(CITIES))
    test = (Sample("s", "sun in Rome?", target("Rome")),)
    task = Task("weather", "Call the right tool.", train, dev, test, tools=Toolbox((WEATHER, MUSIC)))
    return dataclasses.replace(task, **changes)


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ({"calls": calls(("get_weather", {"city": "Rome"}))}, target("Rome")),
        ({"answer": "Hello."}, "[]"),
        (
            {"calls": calls(("play", {"track": "x"}), ("get_weather", {}))},
            '[{"arguments": {"track": "x"}, "name": "play"}, {"arguments": {}, "name": "get.weather"}]',
        ),
    ],
)
async def test_declared_tools_are_not_run_and_their_calls_are_the_answer(
    rule: dict[str, Any], answer: str, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, native(rule))
    assert await solved(bench, FunctionCalling(), weather()) == (
        answer,
        [("turn 1", answer if "calls" in rule else "Hello.")],
    )
    assert [tool.name for tool in bench.chat.requests[0].tools] == ["get_weather", "play"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (target("Rome"), target("Rome")),
        ("[]", "[]"),
        (f"I call {target('Rome')[1:-1]}.", target("Rome")),
        ("weather in Rome", "weather in Rome"),
    ],
)
async def test_prompted_calls_are_canonical_and_anything_else_is_left_to_the_scorer(
    text: str, answer: str, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, {"rules": [{"answer": text}]})
    assert (await solved(bench, FunctionCalling(), weather()))[0] == answer


async def test_no_call_is_offered_where_train_does_not_rule_it_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"default": "[]"})
    task = weather(train=(*weather().train, Sample("none", "hello", "[]")))
    assert (await solved(bench, FunctionCalling(), task))[0] == "[]"
    assert allows(bench.chat.requests[0], [])
    assert "The list is empty, [], when no tool fits." in bench.chat.requests[0].messages[0].content


async def test_the_constraint_holds_what_train_has_shown(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"default": "[]"})
    fitted = await bench.fit(FunctionCalling(), weather())
    assert fitted.parameters["calls"] == "1 to 1"
    await fitted.solve(weather().test[0], bench.meter())
    (request,) = bench.chat.requests
    assert allows(request, json.loads(target("Rome")))
    assert allows(request, [{"name": "play", "arguments": {}}])
    assert not allows(request, [])
    assert "empty" not in request.messages[0].content, "in train there always was a call"
    assert not allows(request, [{"name": "play", "arguments": {"track": "la" * 50}}])
    assert not allows(request, [{"name": "play", "arguments": {"city": "Rome"}}])


@pytest.mark.parametrize("is_native", [True, False])
async def test_the_nearest_worked_calls_are_shown(is_native: bool, tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"native_tools": is_native, "default": "[]"})
    await solved(bench, FunctionCalling(k=2), weather())
    shown = bench.chat.requests[-1].messages[1:-1]
    users = [message.content for message in shown if message.role == "user"]
    assert len(users) == 2
    assert all("Rome" in text for text in users)
    if is_native:
        assert [message.role for message in shown] == ["user", "assistant", "tool"] * 2
        assert [message.tool_call_id for message in shown if message.role == "tool"] == ["call_1", "call_2"]
        assert shown[1].tool_calls[0].name == "get_weather"
    else:
        assert shown[-1].content == '[{"name": "get.weather", "arguments": {"city": "Rome"}}]'


async def test_the_number_of_worked_calls_is_chosen_on_dev(tmp_path: Path) -> None:
    rules = [{"needs": rf"in {city}", "when": rf"for {city}", "answer": target(city)} for city in CITIES]
    bench = Bench(tmp_path, {"rules": rules, "default": "[]"}, scorer=ToolCalls())
    fitted = await bench.fit(FunctionCalling(k=None), weather())
    assert fitted.parameters["k"] == 4, "as good as 8 and cheaper; without any, the model knows no city"
    tried = {row["option"]: row["score"] for row in fitted.parameters["tried"]}
    assert tried == {"k=0": 0.0, "k=4": 1.0, "k=8": 1.0}


@pytest.mark.parametrize(("k", "is_native"), [(4, False), (4, True), (None, False)])
async def test_worked_calls_keep_the_contract(k: int | None, is_native: bool, tmp_path: Path) -> None:
    script = {"native_tools": is_native, "rules": [{"when": "Rome", "answer": target("Rome")}], "default": "[]"}
    assert await violations(FunctionCalling(k=k), tmp_path, weather(), script=script) == []


async def test_samples_may_bring_tools_of_their_own(tmp_path: Path) -> None:
    own = {"tools": [{"name": "radio.on", "description": "Turn it on.", "parameters": {}}]}
    sample = Sample("s", "radio please", "[]", own)
    task = weather(tools=None, train=(), dev=(sample,), test=(sample,))
    assert FunctionCalling().unfit(task) is None
    assert FunctionCalling().suits(task) == "the samples bring tools of their own"
    bench = Bench(tmp_path, native({"calls": calls(("radio_on", {}))}))
    answer, _ = await solved(bench, FunctionCalling(), task)
    assert answer == '[{"arguments": {}, "name": "radio.on"}]'
    broken = dataclasses.replace(sample, metadata={"tools": [{"name": "two words"}]})
    for one, said in ((broken, "the name 'two words'"), (dataclasses.replace(sample, metadata={}), "declares a tool")):
        with pytest.raises(RequestError, match=said):
            await solved(bench, FunctionCalling(), task, one)


def test_it_says_when_it_makes_no_sense(calculator: Toolbox) -> None:
    assert FunctionCalling().unfit(dataclasses.replace(TASK, tools=None)) == "the scenario declares no tools"
    assert FunctionCalling().unfit(TASK) is None
    assert "targets are no calls" in str(FunctionCalling(k=4).unfit(TASK))
    assert "targets are no calls" in str(FunctionCalling(k=4).unfit(sums(calculator)))
    assert FunctionCalling(k=4).unfit(weather()) is None
    assert "targets are no calls" in str(FunctionCalling().skip(TASK))
    assert FunctionCalling().skip(weather()) is None
    assert FunctionCalling().skip(sums(calculator)) is None
    assert [FunctionCalling(k=k).embeds for k in (0, 4, None)] == [False, True, True]
    assert FunctionCalling().suits(weather()) == "2 tools are declared"
    assert FunctionCalling().suits(TASK) == "1 tool is declared"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"max_calls": 0}, "at least one call"),
        ({"k": -1}, "counts examples"),
        ({"tool_seconds": 0}, "calls take time"),
        ({"form": "xml"}, "function_calling.form is 'xml'"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], said: str) -> None:
    assert said in registry.problems("function_calling", parameters)[0]
