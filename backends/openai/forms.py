"""Answers of a given form: one of some strings, or JSON under a schema; how they are asked for and how they are read.

The strictest way that the endpoint takes is used: a JSON Schema that it enforces to the letter (`strict`), one that it
enforces as it can (`json_schema`), JSON of any form (`json_object`), or a sentence that says what is wanted (`plain`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from backends.errors import RequestError
from backends.openai.capabilities import kind_of
from backends.openai.strict import strict_schema, without_nulls
from backends.openai.untrusted import UNREADABLE
from backends.types import ChatRequest, Message

Way = Literal["strict", "json_schema", "json_object", "plain"]
_MOST_CHOICES = 500
"""OpenAI's limit of enum values under strict schemas is 1,000 in all, their text beyond 250 of them 15,000."""
_MOST_CHARACTERS = 15_000
_WRAP = 24
"""Tokens, at most, of `{"answer": "..."}` around an answer."""


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer is to look like and how that is asked for."""

    way: Way
    choices: tuple[str, ...] = ()
    schema: str = ""
    """JSON Schema as the endpoint gets it."""
    is_wrapped: bool = False
    """Whether the answer lies under the key `answer` of an object."""
    nulls_for: str = ""
    """The schema as asked for, when the endpoint's differs in that what may be left out is null there."""

    @property
    def feature(self) -> str | None:
        """The feature that the endpoint must have, None for `plain`."""
        if self.way == "plain":
            return None
        if self.way != "strict":
            return self.way
        # Whether a schema is strict enough is a matter of the schema, not of the endpoint.
        return f"strict {hashlib.sha256(self.schema.encode()).hexdigest()[:8]}"

    def response_format(self, is_openai: bool) -> dict[str, Any] | None:
        """The request's `response_format`, None for `plain`."""
        if self.way == "plain":
            return None
        if self.way == "json_object":
            # llama.cpp and its bindings take the schema here; OpenAI takes nothing more.
            return {"type": "json_object"} | ({} if is_openai else {"schema": json.loads(self.schema)})
        return {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": self.way == "strict", "schema": json.loads(self.schema)},
        }

    @property
    def instruction(self) -> str:
        """What is added to the prompt, empty where the endpoint enforces the form."""
        if self.way in {"strict", "json_schema"}:
            return ""
        if self.choices and self.way == "plain":
            listed = "\n".join(f"- {choice}" for choice in self.choices)
            return f"Answer with exactly one of the following, and nothing else:\n{listed}"
        return f"Answer with JSON only, valid under this JSON Schema:\n{self.schema}"

    def shown(self, text: str) -> str:
        """An answer as it is to be written; what is no answer is left as it is."""
        if not self.is_wrapped:
            return text
        if self.choices:
            return json.dumps({"answer": text}, ensure_ascii=False) if text in self.choices else text
        try:
            return json.dumps({"answer": json.loads(text)}, ensure_ascii=False)
        except UNREADABLE:
            return text

    def conversation(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """A prompt whose worked examples answer in this form.

        Small models follow their examples: shown plain labels and held to JSON, they answer much worse (docs/log.md).
        """
        return tuple(
            replace(message, content=self.shown(message.content)) if message.role == "assistant" else message
            for message in messages
        )

    def read(self, text: str) -> str | None:
        """The answer in what the model wrote; None when it is not of the form."""
        found = self._read(text)
        written = text.rstrip()
        if found is None and self.is_wrapped and written.endswith(('"', "]", "}")):
            # Small models fill an enforced form with blanks until their tokens are spent: the one value in it is whole.
            return self._read(written + "}")
        return found

    def _read(self, text: str) -> str | None:
        if self.choices:
            return _chosen(text, self.choices)
        found = _json_in(text)
        if found is None:
            return None
        whole, value = found
        if self.is_wrapped and isinstance(value, Mapping) and set(value) == {"answer"}:
            return json.dumps(value["answer"], ensure_ascii=False)
        if self.nulls_for:
            return json.dumps(without_nulls(value, json.loads(self.nulls_for)), ensure_ascii=False)
        return whole


def form_of(request: ChatRequest, without: Collection[str]) -> Form | None:
    """The form that a request asks for, in the strictest way that is not refused; None for free text."""
    forms = _choice_forms(request.choices) if request.choices else _schema_forms(request.json_schema)
    return next((form for form in forms if not _is_refused(form, without)), None)


def conversation(request: ChatRequest, form: Form | None) -> tuple[Message, ...]:
    """The request's messages as they are sent, but for the form's instruction."""
    return request.messages if form is None else form.conversation(request.messages)


def extra_tokens(request: ChatRequest) -> int:
    """Tokens that the form may add to an answer."""
    return _WRAP + max(len(choice.encode()) for choice in request.choices) if request.choices else _WRAP


def _is_refused(form: Form, without: Collection[str]) -> bool:
    feature = form.feature
    if feature is None:
        return False
    return feature in without or (kind_of(feature) == "strict" and "json_schema" in without)


def _choice_forms(choices: tuple[str, ...]) -> list[Form]:
    plain = Form("plain", choices)
    if len(choices) > _MOST_CHOICES or sum(map(len, choices)) > _MOST_CHARACTERS:
        return [plain]
    one = {"type": "string", "enum": list(choices)}
    schema = _text(_wrapped(one))
    ways: tuple[Way, ...] = ("strict", "json_schema", "json_object")
    return [*(Form(way, choices, schema, True) for way in ways), plain]


def _schema_forms(text: str | None) -> list[Form]:
    if text is None:
        return []
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise RequestError(f"the answer's form cannot be asked for: the schema is not JSON: {error}") from error
    # Endpoints want an object at the root.
    is_wrapped = not (isinstance(schema, dict) and schema.get("type") == "object")
    asked = _wrapped(schema) if is_wrapped else schema
    forms = [Form("json_schema", (), _text(asked), is_wrapped)]
    strict = strict_schema(asked)
    if strict is not None:
        forms.insert(0, Form("strict", (), _text(strict), is_wrapped, "" if strict == asked else _text(asked)))
    return [*forms, Form("json_object", (), _text(asked), is_wrapped), Form("plain", (), text)]


def _wrapped(schema: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"answer": schema},
        "required": ["answer"],
        "additionalProperties": False,
    }


def _text(schema: Any) -> str:
    return json.dumps(schema, ensure_ascii=False)


def _chosen(text: str, choices: tuple[str, ...]) -> str | None:
    found = _json_in(text)
    if found is not None and isinstance(found[1], Mapping) and isinstance(found[1].get("answer"), str):
        text = found[1]["answer"]
    text = text.strip()
    if text in choices:
        return text
    by_plain = {_plain(choice): choice for choice in choices}
    # Two choices that differ in case or punctuation only cannot be told apart in an answer that is neither.
    return by_plain.get(_plain(text)) if len(by_plain) == len(choices) else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().strip(" \t\r\n\"'`*_.,:;!").split())


def _json_in(text: str) -> tuple[str, Any] | None:
    """The JSON that a text is, or that it holds: in a code fence, or from the first bracket on."""
    for candidate in _candidates(text):
        try:
            return candidate, json.loads(candidate)
        except UNREADABLE:
            continue
    start = re.search(r"[{\[]", text)
    if start is None:
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text[start.start() :])
    except UNREADABLE:
        return None
    return text[start.start() :][:end], value


def _candidates(text: str) -> list[str]:
    fenced = re.findall(r"```(?:json)?\s*\n?(.*?)```", text, re.DOTALL)
    return [part.strip() for part in (text, *fenced)]
