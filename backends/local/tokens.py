"""Tokens of a local model's texts and prompts, by its own tokenizer alone: no weights, no torch, milliseconds."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends.local.catalog import Place
from backends.local.convert import folder_of
from backends.local.files import read_json
from backends.types import ChatRequest

_CHARACTERS_PER_TOKEN = 4.0
"""About what tokenizers need for English; for models whose tokenizer cannot be read yet."""
_FRAME = (3.0, 4.0)
"""Tokens of the frame of a conversation and of each message, where the template cannot be tried."""
_TOOL = 12
_TRIED = (("system", "user"), ("system", "user", "assistant", "user"))


class LocalTokens:
    """Counts by `tokenizer.json`; the template's frame is measured once and taken to be the same for all messages."""

    def __init__(self, place: Place) -> None:
        folder = folder_of(place.path) if place.is_gguf else place.path
        self._tokenizer = _tokenizer(folder)
        self._known: dict[str, int] = {}
        self._frame = _FRAME if self._tokenizer is None else self._measured(_template(folder))

    @property
    def is_exact(self) -> bool:
        """False when the tokenizer cannot be read, and characters are counted in its place."""
        return self._tokenizer is not None

    def text(self, text: str) -> int:
        """Tokens of a text."""
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]

    def prompt(self, request: ChatRequest) -> int:
        """Tokens of a conversation up to where the answer begins."""
        whole, each = self._frame
        texts = [message.content for message in request.messages]
        tools = [f"{tool.name} {tool.description} {tool.parameters}" for tool in request.tools]
        content = sum(map(self.text, (*texts, *tools))) + _TOOL * len(tools)
        return round(whole + each * len(texts)) + content

    def _count(self, text: str) -> int:
        if self._tokenizer is None:
            return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _measured(self, template: str | None) -> tuple[float, float]:
        """What two conversations without content take."""
        if template is None:
            return _FRAME
        short, long = (_rendered(template, roles) for roles in _TRIED)
        if short is None or long is None:
            return _FRAME
        each = (self._count(long) - self._count(short)) / (len(_TRIED[1]) - len(_TRIED[0]))
        return self._count(short) - each * len(_TRIED[0]), each


def _tokenizer(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    if not path.is_file() or importlib.util.find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def _template(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    config = read_json(folder / "tokenizer_config.json")
    found = config.get("chat_template") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None


def _rendered(template: str, roles: Sequence[str]) -> str | None:
    """The template around empty messages; None where it cannot be tried without its library."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    turns = [{"role": role, "content": ""} for role in roles]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(template).render(messages=turns, add_generation_prompt=True)
    except (TemplateError, TypeError, ValueError):
        return None
