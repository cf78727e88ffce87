import json

import jsonschema
import pytest
import torch

from backends.errors import RequestError
from backends.local.constrain import Grammars, choices_grammar, schema_grammar

from .local_models import tiny_tokenizer

LOGITS = 416
EOS = 2


@pytest.fixture(scope="module")
def grammars():
    return Grammars(tiny_tokenizer(), (EOS,), LOGITS)


def walk(constraint, generator, forced=True):
    """Follow random allowed tokens to the end, as the decoder does."""
    ids = []
    for _ in range(400):
        logits = torch.rand(LOGITS, generator=generator)
        constraint.forbid(logits)
        token = int(logits.argmax())
        assert logits[token] > float("-inf")
        if token == EOS:
            return constraint.text(ids)
        ids.append(token)
        constraint.accept(token)
        if constraint.is_done:
            return constraint.text(ids)
        tokens, completes = constraint.forced() if forced else ([], False)
        for follows in tokens:
            constraint.accept(follows)
        ids += tokens
        assert completes == (bool(tokens) and constraint.is_done)
        if completes:
            return constraint.text(ids)
    raise AssertionError("no end")


CHOICES = [
    "card",
    "card_lost",
    "refund",
    'a "quoted"\nline',
    "back\\slash",
    "Zürich",
    "日本",
    " led by a space",
    "<|im_end|>",
]


@pytest.mark.parametrize("forced", [True, False])
def test_the_answer_is_one_of_the_choices_and_each_can_be_reached(grammars, forced):
    generator = torch.Generator().manual_seed(0)
    grammar = choices_grammar(CHOICES)
    seen = {walk(grammars.start(grammar), generator, forced) for _ in range(150)}
    assert seen == set(CHOICES)


def test_a_choice_that_begins_another_may_end_or_go_on(grammars):
    constraint = grammars.start(choices_grammar(["card", "card_lost"]))
    for token in tiny_tokenizer()("card", add_special_tokens=False)["input_ids"]:
        constraint.accept(token)
    logits = torch.zeros(LOGITS)
    constraint.forbid(logits)
    assert logits[EOS] == 0
    assert (logits == 0).sum() >= 2
    assert constraint.forced() == ([], False)
    assert not constraint.is_done


def test_logits_beyond_the_vocabulary_are_never_allowed(grammars):
    constraint = grammars.start(schema_grammar('{"type": "string"}'))
    logits = torch.zeros(LOGITS)
    constraint.forbid(logits)
    assert (logits[len(tiny_tokenizer()) :] == float("-inf")).all()


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def test_json_is_valid_under_its_schema(grammars):
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        text = walk(grammars.start(schema_grammar(json.dumps(SCHEMA))), generator)
        jsonschema.validate(json.loads(text), SCHEMA)
        assert "\n" not in text


@pytest.mark.parametrize("schema", ['{"type": "nope"}', "not json"])
def test_a_schema_that_cannot_be_enforced_fails_the_request(grammars, schema):
    with pytest.raises(RequestError, match="cannot be enforced"):
        grammars.start(schema_grammar(schema))


def test_a_token_outside_the_grammar_fails_the_request(grammars):
    constraint = grammars.start(choices_grammar(["yes", "no"]))
    with pytest.raises(RequestError, match="left its form"):
        constraint.accept(tiny_tokenizer()("5", add_special_tokens=False)["input_ids"][0])
