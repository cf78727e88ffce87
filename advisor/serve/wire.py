"""The OpenAI chat protocol, as far as it is served: bodies in, bodies and event streams out.

Shapes follow the published specification (github.com/openai/openai-openapi): `logprobs` and `refusal` are required of
an answer even when they are null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backends.errors import RequestError
from backends.types import ChatRequest, ChatResponse, Message, Tool, ToolCall

_MAX_TOKENS = 512
"""Of an answer whose request sets no limit."""


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Function(BaseModel):
    name: str
    arguments: str = "{}"


class _Call(BaseModel):
    id: str = ""
    function: _Function


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] = []
    tool_call_id: str = ""


class _Declared(BaseModel):
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class _Tool(BaseModel):
    type: Literal["function"]
    function: _Declared


class _Schema(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    schema_: dict[str, Any] = Field(default={}, alias="schema")


class _Format(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema = _Schema()


class _StreamOptions(BaseModel):
    include_usage: bool = False


class ChatBody(BaseModel):
    """What a client posts; fields that are not named here are ignored, as OpenAI-compatible servers do."""

    model: str
    messages: Annotated[list[_Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(gt=0)] | None = None
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Literal[1] | None = None
    response_format: _Format | None = None
    tools: list[_Tool] = []
    tool_choice: Literal["auto", "required", "none"] = "auto"
    stream: bool = False
    stream_options: _StreamOptions | None = None


def parse(body: bytes) -> ChatBody:
    """Read a request's body. Raises RequestError that names the first field that is wrong."""
    try:
        return ChatBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{where}: {first['msg']}" if where else str(first["msg"])) from error


def chat_request(body: ChatBody) -> ChatRequest:
    """The request as backends take it."""
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    form = body.response_format
    schema = None
    if form is not None and form.type != "text":
        schema = json.dumps(form.json_schema.schema_ or {"type": "object"})
    return ChatRequest(
        tuple(_message(message) for message in body.messages),
        max_tokens=body.max_completion_tokens or body.max_tokens or _MAX_TOKENS,
        temperature=body.temperature,
        seed=body.seed or 0,
        stop=stop,
        json_schema=schema,
        tools=tuple(_tool(tool.function) for tool in body.tools),
        tool_choice=body.tool_choice,
    )


def _message(message: _Message) -> Message:
    content = message.content or ""
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    calls = tuple(ToolCall(call.function.name, call.function.arguments, call.id) for call in message.tool_calls)
    role = "system" if message.role == "developer" else message.role
    return Message(role, text, calls, message.tool_call_id)


def _tool(declared: _Declared) -> Tool:
    return Tool(declared.name, declared.description, json.dumps(declared.parameters, sort_keys=True))


def completion(answer_id: str, created: int, model: str, response: ChatResponse) -> dict[str, Any]:
    """The body of an answer."""
    message: dict[str, Any] = {"role": "assistant", "content": response.text, "refusal": None}
    if response.tool_calls:
        message |= {"content": response.text or None, "tool_calls": _calls(response.tool_calls)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": response.finish_reason}
    head = {"id": answer_id, "object": "chat.completion", "created": created, "model": model}
    return head | {"choices": [choice], "usage": _usage(response)}


def events(answer_id: str, created: int, body: ChatBody, response: ChatResponse) -> Iterator[str]:
    """The same as server-sent events: the whole text in one piece, since candidates answer when they are done."""
    head = {"id": answer_id, "object": "chat.completion.chunk", "created": created, "model": body.model}
    delta: dict[str, Any] = {"role": "assistant", "content": response.text}
    if response.tool_calls:
        delta["tool_calls"] = [call | {"index": i} for i, call in enumerate(_calls(response.tool_calls))]
    for piece, reason in ((delta, None), ({}, response.finish_reason)):
        choice = {"index": 0, "delta": piece, "logprobs": None, "finish_reason": reason}
        yield _event(head | {"choices": [choice]})
    if body.stream_options is not None and body.stream_options.include_usage:
        yield _event(head | {"choices": [], "usage": _usage(response)})
    yield "data: [DONE]\n\n"


def model_list(names: Sequence[str], created: int) -> dict[str, Any]:
    """The body of `/v1/models`."""
    rows = [{"id": name, "object": "model", "created": created, "owned_by": "advisor"} for name in names]
    return {"object": "list", "data": rows}


def failure(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [
        {"id": call.id or f"call_{i}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for i, call in enumerate(calls)
    ]


def _usage(response: ChatResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _event(found: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(found, ensure_ascii=False)}\n\n"
