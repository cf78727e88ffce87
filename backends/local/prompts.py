"""Messages to token ids and back, by the model's own chat template."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from backends.errors import InputError, Problem, RequestError
from backends.types import Message


class Prompts:
    """A tokenizer with a chat template. Safe to use from several threads."""

    def __init__(self, name: str, tokenizer: Any, eos_ids: Sequence[int]) -> None:
        if not tokenizer.chat_template:
            raise InputError(
                Problem(name, "has no chat template: it is a base model.", "Use its instruct or chat version.")
            )
        self.tokenizer = tokenizer
        self.eos_ids = tuple(eos_ids)
        self._name = name
        # Encoding changes padding and truncation state inside a fast tokenizer; two threads at once make it panic.
        self._lock = threading.Lock()

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation up to where the assistant's answer begins.

        Control tokens that a user's text spells out are encoded as plain text, so no input can end its own turn.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            with self._lock:
                ids = self.tokenizer.apply_chat_template(
                    turns, add_generation_prompt=True, return_dict=False, sanitize_control_tokens=True
                )
        except (TemplateError, ValueError) as error:
            roles = [message.role for message in messages]
            raise RequestError(
                f"{self._name}: the chat template refuses messages with roles {roles}: {error}"
            ) from error
        return [int(token) for token in ids]

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of an answer with the token that ends the assistant's turn."""
        with self._lock:
            ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*(int(token) for token in ids), self.end_of_turn]

    @property
    def end_of_turn(self) -> int:
        """The token that ends an answer in the template, one of those at which generation stops."""
        answer = "advisor"
        with self._lock:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}], tokenize=False
            )
            after = self.tokenizer(text.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
        return next((int(token) for token in after if token in self.eos_ids), self.eos_ids[0])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, control tokens left out."""
        with self._lock:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
