import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import RequestError
from backends.openai.capabilities import Search, blamed
from backends.openai.failures import Failure, Kind
from backends.openai.forms import conversation, form_of
from backends.openai.strict import strict_schema, without_nulls
from backends.types import ChatRequest, Message

ASK = (Message("user", "?"),)


def ways(request: ChatRequest) -> list[str]:
    """All ways, each after the one before was refused."""
    without: set[str] = set()
    found = []
    while (form := form_of(request, without)) is not None:
        found.append(form.way)
        if form.feature is None:
            break
        without.add(form.feature)
    return found


OPTIONAL = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


def test_the_strictest_way_that_is_not_refused_is_used() -> None:
    assert ways(ChatRequest(ASK)) == []
    assert ways(ChatRequest(ASK, choices=("a", "b"))) == ["strict", "json_schema", "json_object", "plain"]
    assert ways(ChatRequest(ASK, json_schema=json.dumps(OPTIONAL))) == ["strict", "json_schema", "json_object", "plain"]
    loose = {"type": "object", "additionalProperties": {"type": "string"}}
    assert ways(ChatRequest(ASK, json_schema=json.dumps(loose))) == ["json_schema", "json_object", "plain"]
    many = tuple(str(number) for number in range(600))
    assert ways(ChatRequest(ASK, choices=many)) == ["plain"]


def test_a_schema_that_is_no_json_fails_the_request() -> None:
    with pytest.raises(RequestError, match="not JSON"):
        form_of(ChatRequest(ASK, json_schema="{"), ())


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": "card arrival"}', "card arrival"),
        ('```json\n{"answer": "card arrival"}\n```', "card arrival"),
        ("card arrival", "card arrival"),
        (' "Card Arrival". ', "card arrival"),
        ("**CARD  ARRIVAL**", "card arrival"),
        ("I think it is card arrival", None),
        ("card", None),
        ("", None),
    ],
)
def test_a_choice_is_read_from_json_or_from_text_that_means_it(text: str, answer: str | None) -> None:
    form = form_of(ChatRequest(ASK, choices=("card arrival", "card lost")), ())
    assert form is not None
    assert form.read(text) == answer


def test_worked_examples_answer_in_the_form_that_is_enforced() -> None:
    turns = (Message("user", "red?"), Message("assistant", "red"), Message("user", "?"), Message("assistant", "hm"))
    chosen = ChatRequest((*turns, *ASK), choices=("red", "blue"))
    form = form_of(chosen, ())
    shown = conversation(chosen, form)
    assert [turn.content for turn in shown] == ["red?", '{"answer": "red"}', "?", "hm", "?"]
    assert form is not None
    assert form.read(shown[1].content) == "red"
    assert conversation(chosen, form_of(chosen, {"json_schema", "json_object"})) == chosen.messages
    assert conversation(chosen, None) == chosen.messages


def test_worked_examples_of_a_schema_are_wrapped_where_it_is() -> None:
    turns = (Message("assistant", '["a"]'), Message("assistant", "no JSON"))
    listed = ChatRequest(turns, json_schema='{"type": "array", "items": {"type": "string"}}')
    shown = conversation(listed, form_of(listed, ()))
    assert [turn.content for turn in shown] == ['{"answer": ["a"]}', "no JSON"]
    bare = ChatRequest(turns, json_schema=json.dumps(OPTIONAL))
    assert conversation(bare, form_of(bare, ())) == turns


def test_choices_that_differ_in_case_only_are_not_guessed() -> None:
    form = form_of(ChatRequest(ASK, choices=("yes", "Yes")), ())
    assert form is not None
    assert [form.read(text) for text in ("Yes", "yes", "YES")] == ["Yes", "yes", None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"name": "A", "age": null}', {"name": "A"}),
        ('Here it is: {"name": "A", "age": 3} - done.', {"name": "A", "age": 3}),
        ('```\n{"name": "A"}\n```', {"name": "A"}),
        ('{"name": "A", "age"', None),
        ("no JSON at all", None),
        ("[" * 100_000, None),
    ],
)
def test_json_is_read_from_what_surrounds_it(text: str, value: object) -> None:
    form = form_of(ChatRequest(ASK, json_schema=json.dumps(OPTIONAL)), ())
    assert form is not None
    found = form.read(text)
    assert (None if found is None else json.loads(found)) == value


@pytest.mark.parametrize(
    ("text", "choice", "items"),
    [
        ('{\n  "answer"\n:\n\n"red"\n\n\n', "red", '"red"'),
        ('{"answer": ["a", "b"] ', None, '["a", "b"]'),
        ('{"answer": "re', None, None),
        ('{"answer": "red\\"', None, None),
        ('{"answer": ["a", "b"', None, None),
        ('{"answer": 12', None, None),
    ],
)
def test_blanks_after_a_whole_value_do_not_spoil_an_answer_that_was_cut(
    text: str, choice: str | None, items: str | None
) -> None:
    chosen = form_of(ChatRequest(ASK, choices=("red", "blue")), ())
    wrapped = form_of(ChatRequest(ASK, json_schema='{"type": "array", "items": {"type": "string"}}'), ())
    bare = form_of(ChatRequest(ASK, json_schema=json.dumps(OPTIONAL)), ())
    assert chosen is not None
    assert wrapped is not None
    assert bare is not None
    assert chosen.read(text) == choice
    assert wrapped.read(text) == items
    # An object of several keys may lack one.
    assert bare.read('{"name": "Ada" ') is None


def test_a_schema_that_is_no_object_is_wrapped_on_the_way() -> None:
    request = ChatRequest(ASK, json_schema='{"type": "array", "items": {"type": "integer"}}')
    form = form_of(request, ())
    assert form is not None
    assert json.loads(form.schema)["required"] == ["answer"]
    assert form.read('{"answer": [1, 2]}') == "[1, 2]"
    assert form.read("[1, 2]") == "[1, 2]"


leaves = st.sampled_from(
    [{"type": "string"}, {"type": "integer"}, {"type": ["string", "null"]}, {"type": "string", "minLength": 2}]
)


def objects(children: Any) -> Any:
    properties = st.dictionaries(st.sampled_from("abc"), children, min_size=1, max_size=3)
    return st.builds(
        lambda given, keep: {"type": "object", "properties": given, "required": sorted(given)[:keep]},
        properties,
        st.integers(0, 3),
    )


def arrays(children: Any) -> Any:
    return st.builds(lambda child: {"type": "array", "items": child}, children)


schemas = objects(st.recursive(leaves, lambda children: objects(children) | arrays(children), max_leaves=6))


def example(schema: dict[str, Any], draw: Any) -> Any:
    """A document under a strict schema."""
    if "anyOf" in schema:
        return example(draw(st.sampled_from(schema["anyOf"])), draw)
    kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
    if kind == "object":
        return {name: example(part, draw) for name, part in schema["properties"].items()}
    if kind == "array":
        return [example(schema["items"], draw) for _ in range(draw(st.integers(0, 2)))]
    return {"string": "text", "integer": 3, "null": None}[kind]


@given(schemas, st.data())
def test_every_document_under_the_strict_schema_is_valid_under_the_one_asked_for(
    schema: dict[str, Any], data: st.DataObject
) -> None:
    strict = strict_schema(schema)
    if "minLength" in json.dumps(schema):
        assert strict is None
        return
    assert strict is not None
    document = example(strict, data.draw)
    jsonschema.validate(document, strict)
    jsonschema.validate(without_nulls(document, schema), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}, "required": ["a"], "patternProperties": {}},
        {"type": "object", "properties": {"a": {}}, "required": ["b"]},
        {"type": "object", "properties": {"a": True}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}]}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "string"}}},
    ],
)
def test_what_strict_mode_cannot_say_is_left_to_the_looser_way(schema: dict[str, Any]) -> None:
    assert strict_schema(schema) is None


def refusal(text: str, parameter: str = "") -> Failure:
    return Failure(Kind.REFUSED, text, text.lower(), parameter)


@pytest.mark.parametrize(
    ("text", "parameter", "sent", "feature"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            "max_tokens",
            ["max_tokens", "temperature"],
            "max_tokens",
        ),
        (
            "Unsupported value: 'temperature' does not support 0",
            "temperature",
            ["max_tokens", "temperature"],
            "temperature",
        ),
        ("Invalid schema for response_format 'answer'", "response_format", ["strict 12", "seed"], "strict 12"),
        ("response_format: input should be 'text' or 'json_object'", "", ["json_schema"], "json_schema"),
        ("Extra inputs are not permitted: seed", "", ["temperature", "seed"], "seed"),
        ('"auto" tool choice requires --enable-auto-tool-choice', "", ["tools", "tool_choice"], "tool_choice"),
        ("Bad Request", "", ["temperature", "seed"], None),
    ],
)
def test_an_error_blames_a_feature_by_name(text: str, parameter: str, sent: list[str], feature: str | None) -> None:
    assert blamed(refusal(text, parameter), sent) == feature


def test_without_a_name_optional_features_are_tried_one_at_a_time_and_forms_last() -> None:
    search = Search(frozenset())
    tried = []
    while search.refused(refusal("Bad Request"), sent(search.without)):
        tried.append(sorted(search.without))
    assert tried == [["seed"], ["logprobs"], ["strict 1"], ["json_schema", "strict 1"]]


def sent(without: frozenset[str]) -> list[str]:
    form = next(name for name in ("strict 1", "json_schema", "") if name not in without)
    return [name for name in ("max_tokens", form, "seed", "logprobs") if name and name not in without]


def test_what_was_guessed_wrongly_is_not_learnt() -> None:
    search = Search(frozenset())
    search.refused(refusal("Bad Request"), ["seed", "logprobs"])
    search.refused(refusal("Bad Request"), ["logprobs"])
    assert search.found == {"logprobs"}
