"""Under the grammar of the calls' schema a model can write nothing but valid calls, whatever tokens it prefers."""

from __future__ import annotations

import json

import pytest
import torch

from advisor.tools.calls import read_calls
from advisor.tools.declare import declared
from advisor.tools.schema import Bounds, calls_schema
from backends.local.constrain import Grammars, schema_grammar
from backends.types import Usage
from benchmarks.rungs.calls import is_valid, valid_share
from evals.task import Toolbox
from evals.trial import Trial
from tests.local_models import tiny_tokenizer

LOGITS, EOS = 416, 2
TOOLS = tuple(
    declared(row)
    for row in (
        {
            "name": "hotel.book",
            "parameters": {
                "properties": {
                    "city": {"type": "string"},
                    "unit": {"enum": ["C", "F"], "default": "C"},
                    "guests": {"type": "array", "items": {"$ref": "#/$defs/Guest"}},
                },
                "required": ["city"],
                "$defs": {"Guest": {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}},
            },
        },
        {"name": "stop"},
    )
)


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(tiny_tokenizer(), (EOS,), LOGITS)


def walk(grammars: Grammars, schema: str, generator: torch.Generator) -> str:
    """Follow random allowed tokens to the end."""
    constraint = grammars.start(schema_grammar(schema))
    ids: list[int] = []
    for _ in range(3000):
        logits = torch.rand(LOGITS, generator=generator)
        constraint.forbid(logits)
        token = int(logits.argmax())
        if token == EOS:
            return constraint.text(ids)
        ids.append(token)
        constraint.accept(token)
        if constraint.is_done:
            return constraint.text(ids)
    raise AssertionError("no end")


def test_every_text_under_the_grammar_is_a_list_of_calls_that_can_be_made(grammars: Grammars) -> None:
    generator = torch.Generator().manual_seed(0)
    schema = calls_schema(TOOLS, Bounds(most_calls=2, characters=8, items=2))
    texts = [walk(grammars, schema, generator) for _ in range(60)]
    assert [text for text in texts if not is_valid(text, TOOLS)] == []
    found = [calls for text in texts if (calls := read_calls(text)) is not None]
    assert {len(calls) for calls in found} == {0, 1, 2}
    assert {call.name for calls in found for call in calls} == {"hotel.book", "stop"}
    given = {frozenset(call.arguments) for calls in found for call in calls if call.name == "hotel.book"}
    assert frozenset({"city"}) in given, "what is optional can be left out"
    assert max(map(len, given)) == 3


def trial(output: str | None) -> Trial:
    return Trial("c", "test", "s", output, None, None if output is not None else "refused", Usage(), 0.0)


def test_the_share_of_valid_outputs_is_over_the_outputs_there_are() -> None:
    rome = json.dumps([{"name": "hotel.book", "arguments": {"city": "Rome"}}])
    outputs = [rome, "[]", f"Sure: {rome}", '[{"name": "hotel.book", "arguments": {}}]', None]
    assert valid_share([trial(output) for output in outputs], Toolbox(TOOLS)) == 0.5
    assert valid_share([trial(None)], Toolbox(TOOLS)) is None
