import socket

import pytest

from backends.openai import tokens
from backends.types import Message, Tool

COOKBOOK = [
    (
        "system",
        "",
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    ),
    ("system", "example_user", "New synergies will help drive top-line growth."),
    ("system", "example_assistant", "Things working well together will increase revenue."),
    (
        "system",
        "example_user",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    ),
    ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
    ("user", "", "This late pivot means we don't have time to boil the ocean for the client deliverable."),
]
"""The example of OpenAI's cookbook, How to count tokens with tiktoken."""


@pytest.mark.parametrize(("model", "billed"), [("gpt-4-0613", 129), ("gpt-4o", 124)])
def test_the_cookbooks_conversation_counts_what_openai_billed(model: str, billed: int) -> None:
    names = sum(1 + tokens.count_text(name, model) for _, name, _ in COOKBOOK if name)
    counted = tokens.count([Message(role, text) for role, _, text in COOKBOOK], model)  # type: ignore[arg-type]
    assert counted == tokens.Count(billed - names, assumed=False)


@pytest.mark.parametrize(
    ("model", "encoding", "assumed"),
    [
        ("gpt-4", "cl100k_base", False),
        ("gpt-4-turbo-2024-04-09", "cl100k_base", False),
        ("gpt-3.5-turbo", "cl100k_base", False),
        ("ft:gpt-3.5-turbo:acme::x", "cl100k_base", False),
        ("text-embedding-3-small", "cl100k_base", False),
        ("gpt-4o-mini", "o200k_base", False),
        ("gpt-6-luna", "o200k_base", False),
        ("ft:gpt-4.1-mini-2025-04-14:acme::x", "o200k_base", False),
        ("ft:o4-mini-2025-04-16:acme::x", "o200k_base", False),
        ("gpt-4.1-mini-2025-04-14.ft-0123:acme", "o200k_base", False),
        ("meta-llama/Llama-3.3-70B-Instruct", "o200k_base", True),
    ],
)
def test_every_name_finds_its_encoding(model: str, encoding: str, assumed: bool) -> None:
    assert tokens.encoding_name(model) == (encoding, assumed)


def test_encodings_load_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    tokens._load.cache_clear()
    assert [tokens.encoding(name).n_vocab for name in ("cl100k_base", "o200k_base")] == [100277, 200019]


def test_a_damaged_encoding_is_not_used() -> None:
    with pytest.raises(tokens.BackendUnavailable, match="damaged"):
        tokens._ranks("https://somewhere/o200k_base.tiktoken", "0" * 64)


def test_control_tokens_in_a_text_are_plain_text() -> None:
    assert tokens.count_text("<|endoftext|>", "gpt-4o") > 3


def test_texts_of_any_kind_are_counted() -> None:
    assert tokens.count_text("\ud800 half a pair", "gpt-4o") > 3
    assert tokens.count_text("a" * 300_000, "gpt-4o") > 10_000


TOOL = Tool("look_up", "Look something up.", '{"type":"object","properties":{"word":{"type":"string"}}}')


@pytest.mark.parametrize("model", ["gpt-4o", "some-other-model"])
@pytest.mark.parametrize("text", ["", "plain words and some more", "ÄÖÜ 漢字仮名 🙂🙂", "x" * 5000, "\ud800"])
def test_the_bound_is_never_below_the_count(model: str, text: str) -> None:
    messages = [Message("system", text), Message("user", text)]
    counted = tokens.count(messages, model, [TOOL]).tokens
    assert counted < tokens.bound(messages, model, [TOOL])
    assert counted + tokens.count_text("{}" * 30, model) < tokens.bound(messages, model, [TOOL], "{}" * 30)


def test_the_bound_is_near_the_count_where_the_encoding_is_known() -> None:
    messages = [Message("user", "plain words and some more " * 100)]
    assert tokens.bound(messages, "gpt-4o") < 1.2 * tokens.count(messages, "gpt-4o").tokens
