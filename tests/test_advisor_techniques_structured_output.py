"""Structured output: what may be written, what is taken out of it, and whether reasoning is chosen where it helps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advisor.techniques import registry
from advisor.techniques.structured_output import StructuredOutput
from backends.types import ChatRequest
from evals.task import Task
from tests import toys
from tests.techniques import TASK, Bench, violations

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"$ref": "#/$defs/Kind"}},
    "required": ["kind"],
    "additionalProperties": False,
    "$defs": {"Kind": {"enum": toys.LABELS}},
}
JSON_TASK = dataclasses.replace(TASK, labels=(), output_schema=json.dumps(SCHEMA))


def allows(request: ChatRequest, value: Any) -> bool:
    assert not request.choices
    return jsonschema.Draft202012Validator(json.loads(request.json_schema or "false")).is_valid(value)


async def test_the_form_holds_a_bounded_reasoning_and_a_label(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"default": '{"reasoning": "r", "answer": "metal"}'})
    fitted = await bench.fit(StructuredOutput(reasoning=True, reasoning_characters=10))
    assert await fitted.solve(TASK.test[0], bench.meter()) == "metal"
    (request,) = bench.chat.requests
    assert allows(request, {"reasoning": "iron", "answer": "metal"})
    assert not allows(request, {"reasoning": "iron is a metal", "answer": "metal"})
    assert not allows(request, {"reasoning": "iron", "answer": "wood"})
    assert not allows(request, {"answer": "metal"})
    assert list(json.loads(request.json_schema or "")["properties"]) == ["reasoning", "answer"], "thought comes first"
    assert "fruit, metal, river" in request.messages[0].content


async def test_without_reasoning_the_form_is_the_answer_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"default": '{"answer": "metal"}'})
    fitted = await bench.fit(StructuredOutput(reasoning=False))
    assert await fitted.solve(TASK.test[0], bench.meter()) == "metal"
    assert allows(bench.chat.requests[0], {"answer": "metal"})
    assert not allows(bench.chat.requests[0], {"reasoning": "", "answer": "metal"})


async def test_an_answer_under_a_schema_is_canonical_json(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"default": 'Here: {"reasoning": "é", "answer": {"kind": "métal"}}'})
    fitted = await bench.fit(StructuredOutput(reasoning=True), JSON_TASK)
    assert await fitted.solve(TASK.test[0], bench.meter()) == '{"kind": "métal"}'
    assert allows(bench.chat.requests[0], {"reasoning": "", "answer": {"kind": "metal"}})
    assert not allows(bench.chat.requests[0], {"reasoning": "", "answer": {"kind": "wood"}})


@pytest.mark.parametrize("text", ["metal", '{"reasoning": "cut off', '["metal"]', '{"kind": "metal"}'])
async def test_a_broken_form_is_the_answer_as_it_is(text: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"default": text})
    fitted = await bench.fit(StructuredOutput(reasoning=True))
    assert await fitted.solve(TASK.test[0], bench.meter()) == text


@pytest.mark.parametrize(("helped", "chosen"), [("reasoning", True), ("^(?!.*reasoning)", False)])
async def test_reasoning_is_chosen_on_dev(helped: str, chosen: bool, tmp_path: Path) -> None:
    rules = [
        {"needs": f"(?s){helped}", "when": "|".join(words), "answer": json.dumps({"answer": label})}
        for label, words in toys.WORDS.items()
    ]
    fitted = await Bench(tmp_path, {"rules": rules, "default": "?"}).fit(StructuredOutput(reasoning_characters=99))
    assert fitted.parameters["reasoning"] is chosen
    assert fitted.parameters["reasoning_characters"] == (99 if chosen else 0)
    assert sorted(row["score"] for row in fitted.parameters["tried"]) == [0.0, 1.0]


@pytest.mark.parametrize("task", [TASK, JSON_TASK])
async def test_it_keeps_the_contract(task: Task, tmp_path: Path) -> None:
    script = {"default": '{"answer": {"kind": "metal"}}'}
    assert await violations(StructuredOutput(), tmp_path, task, script=script) == []


def test_it_says_when_it_makes_no_sense() -> None:
    assert StructuredOutput().unfit(dataclasses.replace(TASK, labels=())) is not None
    assert StructuredOutput().unfit(JSON_TASK) is None
    assert StructuredOutput().suits(TASK) == "3 labels are the only answers"
    assert StructuredOutput().suits(JSON_TASK) == "answers follow an output_schema"
    (found,) = registry.problems("structured_output", {"reasoning_characters": 0})
    assert "set reasoning to false" in found
