"""A chat model behind an endpoint that speaks the OpenAI protocol."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from backends.errors import InputError, RequestError
from backends.openai import client, wire
from backends.openai.capabilities import Search, memory_of
from backends.openai.endpoints import Endpoint, find, identity, key_problem
from backends.openai.failures import BilledError
from backends.openai.forms import form_of
from backends.openai.prices import prices
from backends.openai.retries import Policy
from backends.openai.tokens import bound, count, count_text
from backends.types import ChatRequest, ChatResponse, Usage

_VERSION = 1
"""Of how requests are written and answers read; a change that can change an answer counts it up."""


class OpenAIChat:
    """Implements ChatModel. Nothing is sent before the first request.

    Answers are cut and read alike on all endpoints: `stop` is honoured here too, tokens that the endpoint does not
    count are counted here (`notes` says so), and the cost of attempts that were cut off is counted at its worst.
    """

    def __init__(self, name: str, endpoint: Endpoint, model: str, *, policy: Policy | None = None) -> None:
        self._name = name
        self._endpoint = endpoint
        self._model = model
        self._policy = policy or Policy()
        self._prices = prices(endpoint, model)
        self._memory = memory_of(endpoint, model)
        self._connection: client.Connection | None = None
        self._counted = 0

    @classmethod
    def open(cls, name: str, *, usd_per_hour: float | None = None, folder: Path | None = None) -> OpenAIChat:
        """Open `openai/NAME` or `ENDPOINT/NAME`; `usd_per_hour` and `folder` are for local models.

        Raises InputError when the endpoint is not described rightly or its key is missing.
        """
        endpoint, model = find(name)
        problem = key_problem(name, endpoint)
        if problem is not None:
            raise InputError(problem)
        return cls(name, endpoint, model)

    def __repr__(self) -> str:
        return f"OpenAIChat({self._name!r})"

    @property
    def name(self) -> str:
        """`endpoint/model`, as the user wrote it."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Hash of address, model name, fixed parameters and the version of this backend.

        What an alias stands for today cannot be told before a call, so an alias that moves keeps its fingerprint.
        """
        return hashlib.sha256(f"{_VERSION}\n{identity(self._endpoint, self._model)}".encode()).hexdigest()[:32]

    @property
    def billed(self) -> bool:
        """False when the user says that it costs nothing, or gives no price for a server on this machine."""
        return not self._endpoint.is_loopback if self._prices is None else not self._prices.is_free

    @property
    def native_tools(self) -> bool:
        """What the endpoint's settings say, else whether it has refused tools before."""
        told = self._endpoint.settings.tools
        return "tools" not in self._memory.refused if told is None else told

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures should know."""
        found = []
        if self._counted:
            what = f"{self._counted} answers of {self._name} came without a token count; they were counted here"
            found.append(f"{what}, by an encoding that may differ from the model's.")
        if self._memory.refused:
            found.append(f"{self._name} refuses {', '.join(sorted(self._memory.refused))}; requests go without.")
        return tuple(found)

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage, None when the price is not known."""
        return None if self._prices is None else self._prices.cost(usage)

    def worst_case(self, request: ChatRequest) -> Usage:
        """The longest answer allowed to the prompt, as often as it may be billed.

        Prompt tokens are counted as more when writing them into the provider's prompt cache would cost more.
        """
        return self._priced(_times(self._attempt_bound(request), 1 + self._policy.lost))

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer one request; RequestErrors of requests that may have been billed are BilledErrors."""
        if self._connection is None:
            self._connection = client.connect(self._endpoint, self._policy)
        search = Search(self._memory.refused)
        lost = 0
        while True:
            sent = wire.write(request, self._endpoint, self._model, search.without)
            try:
                reply = await self._connection.post("/chat/completions", sent.body, lost)
            except client.Refused as refusal:
                lost = refusal.lost
                if not search.refused(refusal.failure, sent.features):
                    raise self._error(request, str(search.failure and search.failure.text), lost) from None
                if "tools" in search.without and request.tools:
                    self._memory.learn(frozenset({"tools"}))
                    raise self._error(request, _no_tools(self._name, str(refusal)), lost) from None
            except client.GaveUp as failure:
                raise self._error(request, str(failure), failure.lost) from None
            else:
                self._memory.learn(search.found)
                return self._response(request, sent, reply)

    async def aclose(self) -> None:
        """Close the connection unless other models use it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await client.leave(connection)

    def _response(self, request: ChatRequest, sent: wire.Sent, reply: client.Reply) -> ChatResponse:
        lost = _times(self._attempt_bound(request), reply.lost) if reply.lost else Usage()
        try:
            answer = wire.read(reply.body, request)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            spent = self._priced(self._attempt_bound(request) + lost)
            raise BilledError(f"{self._name} answered something that is no chat completion", spent) from None
        usage = self._usage(request, answer)
        usage = replace(usage, cost_usd=self._cost(usage, answer.written_tokens)) + self._priced(lost)
        self._find_ignored(request, sent, answer)
        text = self._text(request, sent, answer, usage)
        logprob = _logprob(answer, sent, text) if request.logprobs else None
        return ChatResponse(text, usage, reply.seconds, answer.finish_reason, answer.tool_calls, logprob)

    def _text(self, request: ChatRequest, sent: wire.Sent, answer: wire.Answer, usage: Usage) -> str:
        """The answer's text in the form asked for. An answer of another form is an answer: it is given as it is."""
        if answer.is_filtered:
            raise BilledError("the endpoint's content filter cut the answer off", usage)
        text = answer.text
        for stop in request.stop:
            text = text.partition(stop)[0] if sent.form is None else text
        is_cut = answer.finish_reason == "length" and not answer.tool_calls
        if is_cut and not text.strip() and usage.output_tokens >= request.max_tokens:
            what = f"{self._name} spent all {usage.output_tokens} tokens before its answer began"
            raise BilledError(f"{what}: raise reasoning_tokens of its endpoint in advisor.toml", usage)
        if sent.form is None or answer.tool_calls or answer.is_refusal:
            return text
        found = sent.form.read(text)
        if found is None and is_cut and _begins_as_json(text):
            raise BilledError(f"the answer was cut off after {usage.output_tokens} tokens, within its JSON", usage)
        if found is None and sent.form.feature is not None and not _begins_as_json(text):
            # An enforced schema gives nothing but JSON: this endpoint passes over what it does not know.
            self._memory.learn(frozenset({sent.form.feature, "json_schema"}))
        return text if found is None else found

    def _find_ignored(self, request: ChatRequest, sent: wire.Sent, answer: wire.Answer) -> None:
        """Some servers pass over what they do not know: the limit of an answer (it has another name), or tools."""
        name = wire.limit_name(self._endpoint, self._memory.refused)
        limit = sent.body.get(name)
        if answer.usage is not None and isinstance(limit, int) and answer.usage.output_tokens > limit:
            self._memory.learn(frozenset({name}))
        must_call = "tool_choice" in sent.features and request.tool_choice == "required"
        if must_call and not answer.tool_calls and answer.finish_reason == "stop" and not answer.is_refusal:
            self._memory.learn(frozenset({"tools"}))

    def _usage(self, request: ChatRequest, answer: wire.Answer) -> Usage:
        if answer.usage is not None and (answer.usage.output_tokens or not answer.text):
            return answer.usage
        self._counted += 1
        asked = count(request.messages, self._model, request.tools).tokens
        calls = "".join(call.name + call.arguments for call in answer.tool_calls)
        return Usage(1, asked, 0, count_text(answer.text, self._model) + count_text(calls, self._model))

    def _attempt_bound(self, request: ChatRequest) -> Usage:
        form = form_of(request, ())
        schema = "" if form is None else form.schema + "".join(request.choices)
        asked = bound(request.messages, self._model, request.tools, schema)
        if self._prices is not None:
            asked = self._prices.dearest_input(asked)
        return Usage(1, asked, 0, wire.answer_limit(request, self._endpoint, self._model))

    def _priced(self, usage: Usage) -> Usage:
        return replace(usage, cost_usd=self.price(usage))

    def _cost(self, usage: Usage, written_tokens: int) -> float | None:
        return None if self._prices is None else self._prices.cost(usage, written_tokens)

    def _error(self, request: ChatRequest, text: str, lost: int) -> RequestError:
        if not lost:
            return RequestError(text)
        return BilledError(text, self._priced(_times(self._attempt_bound(request), lost)))


def _times(usage: Usage, times: int) -> Usage:
    return Usage(usage.requests * times, usage.input_tokens * times, 0, usage.output_tokens * times)


def _begins_as_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "[", "```"))


def _no_tools(name: str, said: str) -> str:
    return f"{said} {name} takes no tools; from the next start on, calls are asked for in a prompted form."


def _logprob(answer: wire.Answer, sent: wire.Sent, text: str) -> float | None:
    """Logarithm of the answer's probability: of the tokens that spell it, not of the JSON around it."""
    if not answer.tokens:
        return None
    whole = "".join(token for token, _ in answer.tokens)
    start = whole.find(text) if sent.form is not None and text else 0
    end = start + len(text) if sent.form is not None and start >= 0 else len(whole)
    total, position = 0.0, 0
    for token, logprob in answer.tokens:
        if position + len(token) > start and position < end:
            total += logprob
        position += len(token)
    return total
