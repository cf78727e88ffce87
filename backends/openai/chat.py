"""A chat model behind an endpoint that speaks the OpenAI protocol."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from backends.batching import Batching
from backends.errors import InputError, RequestError
from backends.openai import client, wire
from backends.openai.batches import Batches
from backends.openai.capabilities import Search, memory_of, most_answers, takes_several, takes_tools
from backends.openai.endpoints import Endpoint, find, identity, key_problem
from backends.openai.failures import BilledError
from backends.openai.forms import conversation, form_of
from backends.openai.prices import batch_prices, prices, spends_money
from backends.openai.retries import Policy
from backends.openai.several import Drawn, Outcome, Several, are_copies, shared
from backends.openai.tokens import bound, count, count_text
from backends.openai.tuned import base_of
from backends.openai.untrusted import MALFORMED
from backends.types import ChatRequest, ChatResponse, Usage
from backends.wording import counted

_VERSION = 2
"""Of how requests are written and answers read; a change that can change an answer counts it up."""


class OpenAIChat:
    """Implements ChatModel. Nothing is sent before the first request.

    Answers are cut and read alike on all endpoints: `stop` is honoured here too, tokens that the endpoint does not
    count are counted here (`notes` says so), and the cost of attempts that were cut off is counted at its worst.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        model: str,
        *,
        policy: Policy | None = None,
        tuned_from: str | None = None,
        batching: Batching | None = None,
    ) -> None:
        """`tuned_from` is the base of a tuned model whose name does not show it."""
        self._name = name
        self._endpoint = endpoint
        self._model = model
        self._policy = policy or Policy()
        self._prices = prices(endpoint, model, tuned_from)
        self._memory = memory_of(endpoint, model)
        self._connection: client.Connection | None = None
        self._counted = self._lost = 0
        # A batch saves nothing where nothing is billed.
        is_batched = batching is not None and endpoint.settings.batches and self.billed
        self._batches = Batches(endpoint, model, batching, self._policy) if batching and is_batched else None
        self._batch_prices = batch_prices(endpoint, model, tuned_from) if is_batched else None
        self._several = Several(self._ask, self.price, most_answers(endpoint))

    @classmethod
    def open(
        cls,
        name: str,
        *,
        usd_per_hour: float | None = None,
        folder: Path | None = None,
        batching: Batching | None = None,
    ) -> OpenAIChat:
        """Open `openai/NAME` or `ENDPOINT/NAME`; `folder` is that of the job which made a tuned model.

        With `batching` its requests go in batches where they are billed, unless the endpoint's settings say no.

        Raises InputError when the endpoint is not described rightly or its key is missing.
        """
        endpoint, model = find(name)
        problem = key_problem(name, endpoint)
        if problem is not None:
            raise InputError(problem)
        return cls(name, endpoint, model, tuned_from=base_of(folder), batching=batching)

    def __repr__(self) -> str:
        return f"OpenAIChat({self._name!r})"

    @property
    def name(self) -> str:
        """`endpoint/model`, as the user wrote it."""
        return self._name

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of address, model name, fixed parameters and the version of this backend.

        What an alias stands for today cannot be told before a call, so an alias that moves keeps its fingerprint.
        """
        return hashlib.sha256(f"{_VERSION}\n{identity(self._endpoint, self._model)}".encode()).hexdigest()[:32]

    @functools.cached_property
    def billed(self) -> bool:
        """Whether requests spend money that leaves the house; see `spends_money`."""
        return spends_money(self._endpoint, self._prices)

    @property
    def native_tools(self) -> bool:
        """What the endpoint's settings say, else whether it has refused tools before."""
        return takes_tools(self._endpoint, self._memory.refused)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures should know."""
        found = []
        if self._counted:
            what = f"{counted(self._counted, 'answer')} of {self._name} came without a token count"
            found.append(f"{what} and had to be counted here, by an encoding that may differ from the model's.")
        if self._lost:
            what = f"{counted(self._lost, 'answer')} of {self._name} got cut off or did not come in time"
            found.append(f"{what}; each is counted as the most it can have cost.")
        if self._memory.refused:
            found.append(f"{self._name} refuses {', '.join(sorted(self._memory.refused))}; requests go without.")
        return tuple(found)

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage in production, None when the price is not known."""
        return None if self._prices is None else self._prices.cost(usage)

    @property
    def bill(self) -> Callable[[Usage], float | None] | None:
        """What is billed for a usage, where that is not its price: in batches."""
        return None if self._batch_prices is None else self._batch_prices.cost

    @property
    def outlives(self) -> bool:
        """Whether requests go on when this process is gone, and are met again by the next."""
        return self._batches is not None

    def worst_case(self, request: ChatRequest) -> Usage:
        """The longest answer allowed to the prompt, as often as it may be billed.

        Prompt tokens are counted as more when writing them into the provider's prompt cache would cost more.
        """
        # What was cut off is not sent again in a batch.
        times = 1 + self._policy.lost if self._batches is None else 1
        return self._priced(_times(self._attempt_bound(request), times))

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer one request; RequestErrors of requests that may have been billed are BilledErrors.

        Drawn answers to one prompt that are waited for at the same moment go in one request (see several.py).
        """
        if request.temperature > 0 and self.draws_several:
            return await self._several.join(request)
        (outcome,) = (await self._ask([request])).outcomes
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    @property
    def draws_several(self) -> bool:
        """Whether one request may ask for several answers, as far as is known."""
        return self._batches is None and takes_several(self._endpoint, self._memory.refused)

    async def _ask(self, asked: Sequence[ChatRequest], lost: int = 0) -> Drawn:
        """One or several answers to one prompt; see `several.Ask`."""
        request, times, begun = asked[0], len(asked), lost
        search = Search(self._memory.refused)
        while True:
            streamed = self._endpoint.settings.stream and self._batches is None
            sent = wire.write(request, self._endpoint, self._model, search.without, is_streamed=streamed, answers=times)
            try:
                reply = await self._send(sent, request, lost)
            except client.Refused as refusal:
                lost = refusal.lost
                if not search.refused(refusal.failure, sent.features):
                    raise self._error(request, str(search.failure and search.failure.text), lost, times) from None
                if "tools" in search.without and request.tools:
                    self._memory.learn(frozenset({"tools"}))
                    raise self._error(request, _no_tools(self._name, str(refusal)), lost, times) from None
            except client.GaveUp as failure:
                raise self._error(request, str(failure), failure.lost, times) from None
            else:
                self._memory.learn(search.found)
                self._lost += reply.lost - begun
                return self._drawn(asked, sent, reply)

    async def _send(self, sent: wire.Sent, request: ChatRequest, lost: int) -> client.Reply:
        """Raises as `Connection.post` does."""
        if self._batches is not None:
            return await self._batches.post(sent.body, request.repeat)
        if self._connection is None:
            self._connection = client.connect(self._endpoint, self._policy)
        post = self._connection.stream if "stream" in sent.features else self._connection.post
        return await post("/chat/completions", sent.body, lost)

    async def aclose(self) -> None:
        """Close the connection unless other models use it; batches that were sent go on."""
        await self._several.aclose()
        if self._batches is not None:
            await self._batches.aclose()
        connection, self._connection = self._connection, None
        if connection is not None:
            await client.leave(connection)

    def _drawn(self, asked: Sequence[ChatRequest], sent: wire.Sent, reply: client.Reply) -> Drawn:
        """Answers in the order of the requests; fewer where fewer came."""
        request = asked[0]
        try:
            answers = wire.read(reply.body, request, len(asked))
        except MALFORMED:
            spent = self._priced(_times(self._attempt_bound(request, len(asked)), 1 + reply.lost))
            raise BilledError(f"{self._name} answered something that is no chat completion", spent) from None
        self._find_ignored(request, sent, answers)
        bills = self._bills(request, answers, reply.lost)
        has_copies = are_copies([answer.text for answer in answers])
        kept = answers[:1] if has_copies else answers
        if len(kept) < len(asked) and "n" in sent.features:
            self._memory.learn(frozenset({"n"}))
        outcomes = [self._outcome(request, sent, reply, *one) for one in zip(kept, bills, strict=False)]
        # A copy was billed and is no answer: as if that attempt had been lost.
        return Drawn(outcomes, reply.lost + has_copies)

    def _bills(self, request: ChatRequest, answers: Sequence[wire.Answer], lost: int) -> list[Usage]:
        """What each of the answers took, attempts that were lost before included."""
        whole = self._usage(request, answers)
        whole = replace(whole, cost_usd=self._cost(whole, answers[0].written_tokens))
        before = self._priced(_times(self._attempt_bound(request, len(answers)), lost)) if lost else Usage()
        if len(answers) == 1:
            return [whole + before]
        limit = wire.answer_limit(request, self._endpoint, self._model)
        parts = shared(whole, [self._weight(answer, limit) for answer in answers], limit, self.price)
        more = shared(before, [1] * len(answers), before.output_tokens, self.price)
        return [part + other for part, other in zip(parts, more, strict=True)]

    def _outcome(
        self, request: ChatRequest, sent: wire.Sent, reply: client.Reply, answer: wire.Answer, usage: Usage
    ) -> Outcome:
        try:
            text = self._text(request, sent, answer, usage)
        except BilledError as error:
            return error
        logprob = _logprob(answer, sent, text) if request.logprobs else None
        first = reply.first_token_seconds
        return ChatResponse(text, usage, reply.seconds, answer.finish_reason, answer.tool_calls, logprob, first)

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
        if found is None and text.strip() and sent.form.feature is not None and not _begins_as_json(text):
            # An enforced schema gives nothing but JSON: this endpoint passes over what it does not know. Labels are
            # then asked for in words: as JSON that nobody enforces they are harder to write and no easier to read.
            ignored = {sent.form.feature, "json_schema"} | ({"json_object"} if request.choices else set())
            self._memory.learn(frozenset(ignored))
        return text if found is None else found

    def _find_ignored(self, request: ChatRequest, sent: wire.Sent, answers: Sequence[wire.Answer]) -> None:
        """Some servers pass over what they do not know: the limit of an answer (it has another name), or tools."""
        name = wire.limit_name(self._endpoint, self._memory.refused)
        limit, answer = sent.body.get(name), answers[0]
        most = limit * len(answers) if isinstance(limit, int) else None
        if answer.usage is not None and most is not None and answer.usage.output_tokens > most:
            self._memory.learn(frozenset({name}))
        must_call = "tool_choice" in sent.features and request.tool_choice == "required"
        if must_call and not answer.tool_calls and answer.finish_reason == "stop" and not answer.is_refusal:
            self._memory.learn(frozenset({"tools"}))

    def _usage(self, request: ChatRequest, answers: Sequence[wire.Answer]) -> Usage:
        """What all of them took."""
        told = answers[0].usage
        if told is not None and (told.output_tokens or not any(answer.text for answer in answers)):
            return told
        self._counted += len(answers)
        form = form_of(request, self._memory.refused)
        asked = count(conversation(request, form), self._model, request.tools).tokens
        # What asks for the form is read by the model as the rest of the prompt is.
        asked += 0 if form is None else count_text(form.instruction or form.schema, self._model)
        return Usage(1, asked, 0, sum(map(self._written, answers)))

    def _written(self, answer: wire.Answer) -> int:
        """Tokens of what an answer shows, as counted here."""
        calls = "".join(call.name + call.arguments for call in answer.tool_calls)
        return count_text(answer.text, self._model) + count_text(calls, self._model)

    def _weight(self, answer: wire.Answer, limit: int) -> int:
        """One that was cut off took all it was allowed, also where it shows nothing of that."""
        return limit if answer.finish_reason == "length" else max(1, self._written(answer))

    def _attempt_bound(self, request: ChatRequest, answers: int = 1) -> Usage:
        form = form_of(request, ())
        asked_for = "" if form is None else (form.schema or form.instruction) + "".join(request.choices)
        asked = bound(conversation(request, form), self._model, request.tools, asked_for)
        if self._prices is not None:
            asked = self._prices.dearest_input(asked)
        return Usage(1, asked, 0, answers * wire.answer_limit(request, self._endpoint, self._model))

    def _priced(self, usage: Usage) -> Usage:
        return replace(usage, cost_usd=self.price(usage))

    def _cost(self, usage: Usage, written_tokens: int) -> float | None:
        return None if self._prices is None else self._prices.cost(usage, written_tokens)

    def _error(self, request: ChatRequest, text: str, lost: int, answers: int) -> RequestError:
        self._lost += lost
        if not lost:
            return RequestError(text)
        return BilledError(text, self._priced(_times(self._attempt_bound(request, answers), lost)))


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
