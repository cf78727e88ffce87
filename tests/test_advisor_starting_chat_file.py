"""Chat files: system, user and assistant turns become instructions, inputs and targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor.scenario.load import load_scenario
from advisor.starting.chat_file import from_chat, is_chat
from advisor.starting.draft import Draft
from advisor.starting.initialise import init
from evals.data import Row

SYSTEM = {"role": "system", "content": "You help."}


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def draft(*lines: dict[str, Any]) -> Draft:
    return from_chat([Row(number, line) for number, line in enumerate(lines, start=1)], "chat.jsonl")


def line(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def test_one_turn_is_an_input_and_a_target() -> None:
    found = draft(
        line(SYSTEM, turn("user", "hi"), turn("assistant", "hello")),
        line(SYSTEM, turn("user", "x"), turn("assistant", "y")),
    )
    assert found.instructions == "You help."
    assert [(one.input, one.target) for one in found.examples] == [("hi", "hello"), ("x", "y")]


def test_longer_conversations_are_written_out_and_said_to_be() -> None:
    found = draft(
        line(SYSTEM, turn("user", "hi"), turn("assistant", "yes?"), turn("user", "help"), turn("assistant", "sure")),
        line(SYSTEM, turn("user", "hi"), turn("assistant", "hello")),
    )
    assert found.examples[0].input == "User: hi\n\nAssistant: yes?\n\nUser: help"
    assert found.examples[1].input == "User: hi", "one form for all rows"
    assert "the assistant's next turn" in str(found.instructions)


def test_system_messages_that_differ_stand_before_their_messages() -> None:
    found = draft(*(line(turn("system", f"rule {i}"), turn("user", "hi"), turn("assistant", "x")) for i in range(3)))
    assert found.examples[2].input == "rule 2\n\nhi"
    assert "its own instructions" in str(found.instructions)


def test_parts_of_a_message_and_developers_are_read() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}]
    found = draft(line(turn("developer", "Be brief."), turn("user", parts), turn("assistant", "ok")))
    assert found.instructions == "Be brief."
    assert found.examples[0].input == "look"


def test_preference_data_give_the_preferred_answer() -> None:
    row = {
        "input": {"messages": [turn("user", "hi")]},
        "preferred_output": [turn("assistant", "good")],
        "non_preferred_output": [turn("assistant", "bad")],
    }
    assert is_chat([Row(1, row)])
    (example,) = draft(row).examples
    assert (example.input, example.target) == ("hi", "good")
    assert "bad" not in json.dumps(dict(example.fields))


def test_lines_without_an_answer_are_left_out_and_told() -> None:
    found = draft(
        line(turn("user", "hi")),
        line(turn("user", "hi"), turn("assistant", "x")),
        line(turn("user", "a"), turn("assistant", "")),
    )
    assert len(found.examples) == 1
    assert "2 lines without an answer in text, the first: chat.jsonl:1 does not end with the assistant" in found.lost[0]


def test_calls_of_tools_become_targets_and_their_tools_a_file(tmp_path: Path) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "w",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
    rows = [
        line(
            turn("user", f"weather in town {i}?"),
            turn(
                "assistant",
                None,
                tool_calls=[
                    {
                        "id": "1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": json.dumps({"town": f"town {i}"})},
                    }
                ],
            ),
            tools=[tool],
        )
        for i in range(30)
    ]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = init(tmp_path / "chat.jsonl", tmp_path / "made")
    assert made.problems == ()
    scenario = load_scenario(made.folder)
    assert scenario.scorer_name == "tool_calls"
    assert scenario.task.tools is not None
    assert scenario.task.tools.tools[0].name == "weather"
    assert json.loads(scenario.task.test[0].target)[0]["name"] == "weather"


def test_tools_that_differ_from_line_to_line_are_told() -> None:
    found = draft(
        line(turn("user", "a"), turn("assistant", "x"), tools=[{"function": {"name": "f"}}]),
        line(turn("user", "b"), turn("assistant", "y")),
    )
    assert found.tools == ()
    assert "they differ from line to line" in found.lost[0]


@pytest.mark.parametrize(
    "fields", [{"text": "x"}, {"messages": "x"}, {"messages": []}, {"messages": [{"content": "x"}]}]
)
def test_other_rows_are_no_chat(fields: dict[str, Any]) -> None:
    assert not is_chat([Row(1, fields)])
