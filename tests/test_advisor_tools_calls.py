"""Calls as values: read from what models write, checked, bounded, described, renamed for APIs."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from advisor.tools.calls import NOTHING, Call, calls_text, fault, first_json, in_order, read_calls
from advisor.tools.declare import api_names, declared, declared_all
from advisor.tools.schema import Bounds, bounded, calls_schema, turn_schema
from advisor.tools.signature import example, signatures
from backends.types import Tool


def tool(name: str, properties: dict[str, Any] | None = None, required: tuple[str, ...] = (), **more: Any) -> Tool:
    return declared(
        {
            "name": name,
            "description": f"Does {name}.",
            "parameters": {"type": "object", "properties": properties or {}, "required": list(required), **more},
        }
    )


BOOK = tool("hotel.book", {"city": {"type": "string"}, "nights": {"type": "integer"}}, ("city",))
TREE = tool(
    "tree",
    {"root": {"$ref": "#/$defs/Node"}},
    ("root",),
    **{
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "parts": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        }
    },
)
ROME = {"name": "hotel.book", "arguments": {"city": "Rome"}}


def test_a_schema_without_end_is_a_fault_of_the_call_and_no_crash() -> None:
    endless = tool("f", {"a": {"$ref": "#/properties/a"}})
    assert fault(Call("f", {"a": 1}), [endless]) == "the arguments of f do not fit: they are nested too deeply"


def test_tools_of_a_sample_cannot_refer_to_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"the parameters of f: the reference 'http://x\.invalid/a' leads out"):
        declared_all([{"name": "f", "parameters": {"properties": {"a": {"$ref": "http://x.invalid/a"}}}}])


def test_anchors_lead_to_the_same_place_wherever_a_schema_is_put() -> None:
    anchored = tool("f", {"a": {"$ref": "#here"}}, **{"$defs": {"b": {"$anchor": "here", "type": "integer"}}})
    schema = json.loads(calls_schema([anchored], Bounds()))
    jsonschema.validate([{"name": "f", "arguments": {"a": 1}}], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{"name": "f", "arguments": {"a": "x"}}], schema)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (json.dumps([ROME, ROME]), ["hotel.book", "hotel.book"]),
        (json.dumps(ROME), ["hotel.book"]),
        (json.dumps({"calls": [ROME]}), ["hotel.book"]),
        ("[]", []),
        (f"Sure! I call:\n```json\n{json.dumps([ROME])}\n```\nDone [1].", ["hotel.book"]),
        (f"{{not json}} then {json.dumps(ROME)}", ["hotel.book"]),
        ('{"name": "f"}', ["f"]),
        ('[{"name": "f"}, 3]', None),
        ("no call", None),
        ("[1, 2]", None),
        ("[" * 5000, None),
    ],
)
def test_calls_are_found_in_what_models_write(text: str, names: list[str] | None) -> None:
    found = read_calls(text)
    assert (None if found is None else [call.name for call in found]) == names


def test_arguments_may_come_as_text_and_broken_ones_stay_as_they_are() -> None:
    (call,) = read_calls('[{"name": "f", "arguments": "{\\"x\\": 1}"}]') or ()
    assert call.arguments == {"x": 1}
    (broken,) = read_calls('[{"name": "f", "arguments": "{x"}]') or ()
    assert broken.arguments == "{x"
    assert first_json("nothing here") is NOTHING


def test_a_call_is_written_canonically_but_shown_in_the_tools_order() -> None:
    call = Call("hotel.book", {"nights": 2, "extra": 1, "city": "Rome"})
    assert calls_text([call]) == ('[{"arguments": {"city": "Rome", "extra": 1, "nights": 2}, "name": "hotel.book"}]')
    assert list(in_order(call, [BOOK])["arguments"]) == ["city", "nights", "extra"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call("hotel.book", {"city": "Rome"}), None),
        (Call("hotel.book", {"city": 3}), "city: 3 is not of type 'string'"),
        (Call("hotel.book", {}), "'city' is a required property"),
        (Call("hotel.book", {"city": "Rome", "x": 1}), "Additional properties are not allowed"),
        (Call("hotel.book", "{"), "are no JSON object"),
        (Call("hotel", {}), "there is no tool 'hotel'; the tools are hotel.book, tree"),
        (Call("tree", {"root": {"name": "a", "parts": [{"name": "b"}]}}), None),
        (Call("tree", {"root": {"name": "a", "parts": [{}]}}), "root.parts.0: 'name' is a required property"),
    ],
)
def test_a_call_that_cannot_be_made_says_why(call: Call, said: str | None) -> None:
    found = fault(call, [BOOK, TREE])
    assert found is None if said is None else said in str(found)


def test_names_lose_their_dots_without_clashing() -> None:
    tools = [tool(name) for name in ("a.b", "a_b", "a.b.c", "a_b.c", "x" * 60 + ".y.z")]
    names = api_names(tools)
    assert names["a_b"] == "a_b"
    assert names["a.b"] == "a_b_2"
    assert len(set(names.values())) == len(tools)
    assert all("." not in name and len(name) <= 64 for name in names.values())
    assert api_names([BOOK]) == {"hotel.book": "hotel_book"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "the name None"),
        ({"name": "two words"}, "the name 'two words'"),
        ({"name": "x" * 65}, "is not one to 64"),
        ({"name": "f", "description": 3}, "the description of f"),
        ({"name": "f", "parameters": []}, "no JSON Schema of an object"),
        ({"name": "f", "parameters": {"type": "string"}}, "no JSON Schema of an object"),
        ({"name": "f", "parameters": {"properties": {"x": {"type": "strin"}}}}, "no JSON Schema: $.properties.x.type"),
        ({"name": "f", "arguments": {}}, "unknown fields arguments"),
    ],
)
def test_a_declaration_that_is_none_says_why(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        declared(row)
    assert said in str(error.value)


@pytest.mark.parametrize(("rows", "said"), [("f", "no list"), ([3], "no list"), ([{"name": "f"}] * 2, "called f")])
def test_a_samples_own_tools_are_checked(rows: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declared_all(rows)


def test_tools_are_shown_by_signature_and_only_what_names_do_not_say_is_added() -> None:
    search = tool(
        "search",
        {
            "queryText": {"type": "string", "description": "Query text."},
            "kind": {"enum": ["a", "b"], "default": "a", "description": "Which list is searched."},
            "near": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
            "days": {"type": "array", "items": {"type": "string", "format": "date"}},
            "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "any": {},
        },
        ("queryText",),
    )
    assert signatures([search, BOOK]).splitlines() == [
        'search(queryText: string, kind?: "a" | "b" = "a", near?: {lat: number}, days?: list of string (date), '
        "size?: integer | null, any?: any): Does search.",
        "  kind: Which list is searched.",
        "hotel.book(city: string, nights?: integer): Does hotel.book.",
    ]
    assert "root: {name: string, parts?: list of {name: string" in signatures([TREE])


def test_an_example_call_shows_required_arguments_or_the_first() -> None:
    size, unit, tags = {"type": "integer"}, {"enum": ["C", "F"]}, {"type": "array"}
    full = tool("f", {"x": {}, "n": size, "u": unit, "t": tags, "o": {"type": "object"}}, ("n", "u", "t", "o"))
    assert example(full) == {"name": "f", "arguments": {"n": 0, "u": "C", "t": [], "o": {}}}
    assert example(tool("g", {"a": {"type": ["string", "null"]}, "b": {}})) == {"name": "g", "arguments": {"a": "..."}}
    assert example(tool("h")) == {"name": "h", "arguments": {}}
    assert example(TREE)["arguments"] == {"root": {}}


def valid(schema: str, value: Any) -> bool:
    return jsonschema.Draft202012Validator(json.loads(schema)).is_valid(value)


def test_the_schema_allows_just_the_calls_that_can_be_made() -> None:
    schema = calls_schema([BOOK, TREE], Bounds(fewest_calls=0, most_calls=2, characters=6))
    assert valid(schema, [])
    assert valid(schema, [ROME, {"name": "tree", "arguments": {"root": {"name": "a", "parts": [{"name": "b"}]}}}])
    assert not valid(schema, [ROME] * 3)
    assert not valid(schema, [{"name": "hotel.book", "arguments": {}}])
    assert not valid(schema, [{"name": "hotel.book", "arguments": {"city": "Rome", "x": 1}}])
    assert not valid(schema, [{"name": "hotel.book", "arguments": {"city": "Philadelphia"}}])
    assert not valid(schema, [{"name": "tree", "arguments": {"root": {"name": "a", "parts": [{}]}}}])
    assert not valid(schema, [{"name": "tree", "arguments": {"root": {"name": "Philadelphia"}}}])
    assert not valid(schema, [{"name": "other", "arguments": {}}])
    assert not valid(calls_schema([BOOK], Bounds(fewest_calls=1)), [])


def test_a_turn_is_calls_or_an_answer_and_the_last_one_an_answer() -> None:
    answer = {"enum": ["yes", "no"]}
    schema, last = (turn_schema([BOOK], answer, Bounds(), final) for final in (False, True))
    assert valid(schema, {"calls": [ROME]})
    assert valid(schema, {"answer": "yes"})
    assert not valid(schema, {"calls": []})
    assert not valid(schema, {"answer": "perhaps"})
    assert valid(last, {"answer": "no"})
    assert not valid(last, {"calls": [ROME]})


def test_what_the_schema_bounds_itself_stays_as_it_is() -> None:
    given = {
        "type": "object",
        "properties": {
            "own": {"type": "string", "maxLength": 900},
            "long": {"type": "string", "minLength": 50},
            "date": {"type": "string", "format": "date"},
            "kind": {"enum": ["a"]},
            "size": {"type": "integer", "minimum": 0},
            "count": {"type": "integer"},
            "maxLength": {"type": ["string", "null"]},
            "items": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}},
        },
    }
    found = bounded(given, Bounds(characters=9, items=3))["properties"]
    assert found["own"]["maxLength"] == 900
    assert found["long"]["maxLength"] == 50
    assert found["date"] == {"type": "string", "format": "date"}
    assert found["kind"] == {"enum": ["a"]}
    assert found["size"] == {"type": "integer", "minimum": 0}
    assert found["count"] == {"type": "integer", "minimum": -(10**15), "maximum": 10**15}
    assert found["maxLength"] == {"type": ["string", "null"], "maxLength": 9}
    assert found["items"] == {
        "type": "array",
        "items": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "number"}]},
        "maxItems": 3,
    }


def test_bounds_are_learnt_from_enough_right_calls_only() -> None:
    def target(*texts: str) -> str:
        return json.dumps([{"name": "f", "arguments": {"x": text, "l": [1] * 6}} for text in texts])

    targets = [target("a" * 40)] * 19 + [target("b", "c")]
    assert Bounds.learnt(targets, 8) == Bounds(fewest_calls=1, most_calls=2, characters=60, items=9)
    assert Bounds.learnt(targets, 1).most_calls == 1
    assert Bounds.learnt([*targets, "[]"], 8).fewest_calls == 0
    assert Bounds.learnt(targets[:19], 8) == Bounds(most_calls=8)
    assert Bounds.learnt([*targets, "fruit"], 8) == Bounds(most_calls=8)


def test_answers_in_words_get_the_room_that_train_answers_need() -> None:
    assert Bounds.of_answers(["7", "x" * 40], 3) == Bounds(most_calls=3, answer=60)
    assert Bounds.of_answers(["7"], 3).answer == 32
    assert Bounds.of_answers([], 3).answer == 400
