"""Requests and answers as the chat protocol writes them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.openai.endpoints import Endpoint
from backends.openai.forms import Form, conversation, extra_tokens, form_of
from backends.types import ChatRequest, FinishReason, Message, ToolCall, Usage

_REASONS = re.compile(
    r"(gpt-([5-9]|\d\d|oss)|o\d(-|$)|deepseek-r|qwq|magistral|gemini-(2\.5|[3-9])|grok-[4-9])(?!.*-chat)", re.IGNORECASE
)
"""Beginnings of names of models that reason before they answer, unless told otherwise."""
_REASONING_TOKENS = 4096
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64
_CERTAIN = 0.01
"""A logarithm of a probability is 0 at most; some servers round."""
MOST_TOKENS = 10**9
"""What is said to be more for one request is no count: a hundred times the longest context there is."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request on its way."""

    body: Mapping[str, Any]
    features: tuple[str, ...]
    """Features it uses that an endpoint may refuse."""
    form: Form | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as the endpoint wrote it."""

    text: str
    finish_reason: FinishReason
    is_filtered: bool
    """True when a content filter cut the answer off."""
    is_refusal: bool
    """True when the text says why the model will not answer."""
    tool_calls: tuple[ToolCall, ...]
    usage: Usage | None
    """Tokens as billed, None when the endpoint does not tell."""
    written_tokens: int
    """Prompt tokens that were put into a prompt cache."""
    tokens: tuple[tuple[str, float], ...]
    """(text, natural logarithm of its probability) of each token, empty when the endpoint does not tell."""


def answer_limit(request: ChatRequest, endpoint: Endpoint, model: str) -> int:
    """Most tokens that the answer may have, what the form adds and what the model may reason included."""
    has_form = request.choices or request.json_schema
    room = request.max_tokens + reasoning_tokens(endpoint, model)
    return room + (extra_tokens(request) if has_form else 0)


def reasoning_tokens(endpoint: Endpoint, model: str) -> int:
    """Tokens that the model may take to reason beside those of an answer."""
    told = endpoint.settings.reasoning_tokens
    if told is not None:
        return told
    return _REASONING_TOKENS if _REASONS.match(model.removeprefix("ft:").rpartition("/")[2]) else 0


def limit_name(endpoint: Endpoint, without: Collection[str]) -> str:
    """The parameter that limits the answer. OpenAI has dropped the old one, and some servers ignore the new one."""
    names = ["max_tokens", "max_completion_tokens"]
    if endpoint.is_openai or "azure" in endpoint.host:
        names.reverse()
    return next((name for name in names if name not in without), names[0])


def write(
    request: ChatRequest,
    endpoint: Endpoint,
    model: str,
    without: Collection[str],
    *,
    is_streamed: bool = False,
    answers: int = 1,
) -> Sent:
    """A request for one or several answers, without the features that the endpoint refuses."""
    form = form_of(request, without)
    body: dict[str, Any] = {
        **json.loads(endpoint.settings.extra_body),
        "model": model,
        "messages": _messages(conversation(request, form), "" if form is None else form.instruction),
        limit_name(endpoint, without): answer_limit(request, endpoint, model),
    }
    optional = _optional(request, form, endpoint.is_openai, is_streamed and "stream" not in without)
    if answers > 1:
        # First: where an endpoint does not say what it refuses, this is what most of them do not know.
        optional = {"n": {"n": answers}} | optional
    features = [limit_name(endpoint, without)]
    for feature, fields in optional.items():
        if feature not in without:
            body |= fields
            features.append(feature)
    return Sent(body, tuple(features), form)


def read(body: Mapping[str, Any], request: ChatRequest, most: int = 1) -> tuple[Answer, ...]:
    """What the answers say, one at least and `most` at most; the usage of each is that of all of them.

    Raises KeyError, TypeError, ValueError or IndexError for what is no answer.
    """
    first, *further = body["choices"]
    usage, written = _usage(body.get("usage"))
    return tuple(_answer(choice, request, usage, written) for choice in (first, *further[: most - 1]))


def _answer(choice: Mapping[str, Any], request: ChatRequest, usage: Usage | None, written: int) -> Answer:
    message = choice["message"]
    calls = message.get("tool_calls") or ()
    reason = choice.get("finish_reason")
    return Answer(
        text=_text(message.get("content")) or _text(message.get("refusal")),
        finish_reason="length" if reason == "length" else "tool_calls" if calls else "stop",
        is_filtered=reason == "content_filter",
        is_refusal=not message.get("content") and bool(message.get("refusal")),
        tool_calls=tuple(_call(call, position, request) for position, call in enumerate(calls)),
        usage=usage,
        written_tokens=written,
        tokens=_tokens(choice.get("logprobs")),
    )


def wire_name(name: str) -> str:
    """A tool's name as the protocol allows it: letters, digits, `_` and `-`, at most 64."""
    plain = _NO_NAME.sub("_", name)
    if plain == name and len(name) <= _LONGEST_NAME:
        return name
    # Two names that differ only in what is replaced must stay apart.
    return f"{plain[: _LONGEST_NAME - 7]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _optional(request: ChatRequest, form: Form | None, is_openai: bool, is_streamed: bool) -> dict[str, dict[str, Any]]:
    """Fields by the feature they need, in the order in which they matter."""
    fields: dict[str, dict[str, Any]] = {"temperature": {"temperature": request.temperature}}
    if form is not None and form.feature is not None:
        fields[form.feature] = {"response_format": form.response_format(is_openai)}
    if request.temperature > 0:
        # Each repetition is an answer of its own.
        fields["seed"] = {"seed": (request.seed + 1_000_003 * request.repeat) % 2**31}
    if request.stop and form is None:
        fields["stop"] = {"stop": list(request.stop[:4])}
    if request.logprobs:
        fields["logprobs"] = {"logprobs": True}
    if is_streamed:
        fields["stream"] = {"stream": True}
        fields["stream_options"] = {"stream_options": {"include_usage": True}}
    if request.tools:
        fields["tools"] = {"tools": [_tool(tool.name, tool.description, tool.parameters) for tool in request.tools]}
        fields["tool_choice"] = {"tool_choice": request.tool_choice}
    return fields


def _tool(name: str, description: str, parameters: str) -> dict[str, Any]:
    function = {"name": wire_name(name), "description": description, "parameters": json.loads(parameters)}
    return {"type": "function", "function": function}


def _messages(messages: Sequence[Message], instruction: str) -> list[dict[str, Any]]:
    turns = [_message(message) for message in messages]
    if not instruction:
        return turns
    if turns and turns[0]["role"] == "system":
        turns[0]["content"] = f"{turns[0]['content']}\n\n{instruction}"
        return turns
    return [{"role": "system", "content": instruction}, *turns]


def _message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["content"] = message.content or None
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": wire_name(call.name), "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _call(call: Mapping[str, Any], position: int, request: ChatRequest) -> ToolCall:
    function = call["function"]
    names = {wire_name(tool.name): tool.name for tool in request.tools}
    # Some chat templates leave a colon behind the name.
    name = str(function["name"]).strip().rstrip(":")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return ToolCall(names.get(name, name), text, str(call.get("id") or f"call_{position}"))


def _usage(found: object) -> tuple[Usage | None, int]:
    """Usage of an answer, and the prompt tokens that went into a cache; None when it is missing or nonsense."""
    if not isinstance(found, Mapping):
        return None, 0
    given, out = _tokens_in(found, "prompt_tokens"), _tokens_in(found, "completion_tokens")
    if not given or out is None:
        return None, 0
    # Gemini's endpoint leaves what was reasoned out of completion_tokens and bills it all the same.
    out = max(out, (_tokens_in(found, "total_tokens") or 0) - given)
    details = found.get("prompt_tokens_details")
    parts: Mapping[str, Any] = details if isinstance(details, Mapping) else {}
    cached = _tokens_in(parts, "cached_tokens") or _tokens_in(found, "prompt_cache_hit_tokens") or 0
    cached = min(cached, given)
    written = min(_tokens_in(parts, "cache_write_tokens") or 0, given - cached)
    return Usage(1, given, cached, out), written


def _tokens_in(found: Mapping[str, Any], name: str) -> int | None:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def _tokens(logprobs: object) -> tuple[tuple[str, float], ...]:
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list):
        return ()
    tokens = tuple((str(token["token"]), token["logprob"]) for token in content)
    return tokens if all(_is_logprob(logprob) for _, logprob in tokens) else ()


def _is_logprob(value: object) -> bool:
    # Servers write null for what JSON cannot hold, the infinite.
    return isinstance(value, int | float) and math.isfinite(value) and value <= _CERTAIN
