"""The words every backend speaks: messages in, text and usage out.

The engine is asynchronous from the runner down to here. Many coroutines await `complete`; a backend may answer
them one by one, concurrently or in batches, and no caller can tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Role = Literal["system", "user", "assistant", "tool"]
ToolChoice = Literal["auto", "required", "none"]
FloatArray: TypeAlias = "npt.NDArray[np.float32]"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask to have called (the tools of the OpenAI chat protocol)."""

    name: str
    description: str
    parameters: str
    """JSON Schema of the arguments object, as canonical JSON text."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to have a tool called."""

    name: str
    arguments: str
    """JSON text of the arguments, as the model wrote it; it may be broken."""
    id: str = ""
    """Names the call, so that its result can refer to it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn: the calls it asked for."""
    tool_call_id: str = ""
    """Of a tool's turn: the call whose result `content` is."""

    def as_json(self) -> list[Any]:
        """What the turn adds to a cache key; a turn without tools reads as it always did."""
        plain: list[Any] = [self.role, self.content]
        if self.tool_calls or self.tool_call_id:
            plain += [[[call.id, call.name, call.arguments] for call in self.tool_calls], self.tool_call_id]
        return plain


def add_known(left: float | None, right: float | None) -> float | None:
    """Add two figures of which either may be unknown: unknown plus anything is unknown."""
    return None if left is None or right is None else left + right


@dataclass(frozen=True, slots=True)
class Usage:
    """What a piece of work asked of models. Adds up; an unknown part makes the total unknown."""

    requests: int = 0
    input_tokens: int = 0
    """All prompt tokens, those served from a prompt cache included."""
    cached_tokens: int = 0
    """The part of `input_tokens` that a prompt cache served."""
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    """Dollars at the model's prices; None when a price is not known."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=add_known(self.cost_usd, other.cost_usd),
        )


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request to a chat model. Two equal requests may be answered once."""

    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float = 0.0
    """0 is greedy; otherwise the answer is sampled, reproducibly for one `seed`."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these strings."""
    choices: tuple[str, ...] = ()
    """When given, the answer is exactly one of these strings."""
    json_schema: str | None = None
    """When given, the answer is JSON valid under this JSON Schema (itself JSON text, so that requests hash)."""
    tools: tuple[Tool, ...] = ()
    """Tools the model may ask for; only for models with `native_tools`."""
    tool_choice: ToolChoice = "auto"
    logprobs: bool = False
    """Whether `ChatResponse.logprob` is wanted."""
    repeat: int = 0
    """Which of several answers to an otherwise equal request this is; each is asked for and remembered apart."""

    def as_json(self) -> str:
        """Canonical JSON of everything that can change the answer; the request's part of a cache key."""
        fields: dict[str, Any] = {
            "messages": [message.as_json() for message in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed if self.temperature > 0 else None,
            "stop": self.stop,
            "choices": self.choices,
            "json_schema": self.json_schema,
            "repeat": self.repeat,
        }
        # Only where they are used: answers that were paid for before these fields existed keep their keys.
        if self.tools:
            fields["tools"] = [[tool.name, tool.description, tool.parameters] for tool in self.tools]
            fields["tool_choice"] = self.tool_choice
        if self.logprobs:
            fields["logprobs"] = True
        return json.dumps(fields, ensure_ascii=False, sort_keys=True)


def request_key(fingerprint: str, request: ChatRequest) -> str:
    """Key of an answer in a response cache: the model's fingerprint and everything in the request that matters."""
    return answer_key(fingerprint, request.as_json())


def answer_key(fingerprint: str, request: str) -> str:
    """The same for a request that is canonical JSON already."""
    return hashlib.sha256(f"{fingerprint}\n{request}".encode()).hexdigest()


FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """One answer of a chat model."""

    text: str
    usage: Usage
    seconds: float
    """What a user would wait: measured for one request, or, where requests are computed in batches, the machine
    time of its tokens at the rates measured on this machine; 0 where nobody can tell, of answers from a provider's
    batch."""
    finish_reason: FinishReason = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    logprob: float | None = None
    """Natural logarithm of the answer's probability under greedy decoding, among the answers that `choices` or
    `json_schema` allow; None when it was not asked for or the backend cannot tell."""
    first_token_seconds: float | None = None
    """The part of `seconds` until the answer began; None where the backend cannot tell."""
    cached: bool = False
    """True when the response cache answered; `usage` and `seconds` are then those measured when it was paid for."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of shape (texts, dimension), float32, each of length one."""

    vectors: FloatArray
    usage: Usage
    seconds: float
    cached: bool = False


class ChatModel(Protocol):
    """A model that answers conversations.

    `complete` raises RequestError when this request cannot be answered and BackendUnavailable when none can.
    Greedy answers must not depend on which other requests are in flight.
    """

    @property
    def name(self) -> str:
        """`backend/model`, as the user wrote it."""

    @property
    def fingerprint(self) -> str:
        """Everything about the model that can change an answer: weights, precision, template, library versions."""

    @property
    def billed(self) -> bool:
        """True when a call spends money that leaves the house."""

    @property
    def native_tools(self) -> bool:
        """True when requests may carry `tools`; other models are asked for calls in a prompted form."""

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage at today's prices, None when unknown."""

    def worst_case(self, request: ChatRequest) -> Usage:
        """An upper bound of what this request can use; budgets reserve its price before the call."""

    async def complete(self, request: ChatRequest) -> ChatResponse:
        """Answer one request."""

    async def aclose(self) -> None:
        """Let go of memory, threads and connections."""


class Embedder(Protocol):
    """A model that turns texts into unit vectors. Raises as ChatModel does."""

    @property
    def name(self) -> str:
        """`backend/model`."""

    @property
    def fingerprint(self) -> str:
        """Everything about the model that can change a vector."""

    @property
    def billed(self) -> bool:
        """True when a call spends money that leaves the house."""

    def price(self, usage: Usage) -> float | None:
        """Dollars for this usage, None when unknown."""

    def worst_case(self, texts: Sequence[str]) -> Usage:
        """An upper bound of what embedding these texts can use; budgets reserve its price before the call."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed the texts, in order."""

    async def aclose(self) -> None:
        """Let go of memory and connections."""


class Reranker(Protocol):
    """A cross-encoder: scores how well each text answers a query. Raises as ChatModel does."""

    @property
    def name(self) -> str:
        """`backend/model`."""

    @property
    def fingerprint(self) -> str:
        """Everything about the model that can change a score."""

    async def rerank(self, query: str, texts: Sequence[str]) -> Reranking:
        """Score the texts, in order; higher is better."""

    async def aclose(self) -> None:
        """Let go of memory and connections."""


@dataclass(frozen=True, slots=True)
class Reranking:
    """Scores of shape (texts,), in the order of the texts."""

    scores: tuple[float, ...]
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True)
class TuneJob:
    """A fine-tuning job: conversations whose last message is the answer to learn."""

    base: str
    """Model name, `backend/model`."""
    train: tuple[tuple[Message, ...], ...]
    dev: tuple[tuple[Message, ...], ...]
    seed: int
    folder: Path
    """Where checkpoints and the result go; a finished folder is returned as it is, without training again."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The tuner's hyperparameters; unknown names raise InputError."""
    start: Path | None = None
    """Folder of a finished tuning of the same base to go on from; None starts from the base."""
    rejected: tuple[str, ...] = ()
    """Wrong answers to the train conversations, for methods that learn from pairs; empty where there are none."""
    dev_rejected: tuple[str, ...] = ()
    """The same for dev."""


@dataclass(frozen=True, slots=True)
class TuneProgress:
    """Where a tuning job is, for a progress display."""

    step: int
    steps: int
    loss: float | None
    seconds_left: float | None
    phase: str = ""
    """What is done where no step is: `uploading`, `queued`; empty while it trains."""


class TuneObserver(Protocol):
    """Called, possibly from another thread, after every step."""

    def __call__(self, progress: TuneProgress) -> None:
        """Take note of where the job is."""


@dataclass(frozen=True, slots=True)
class TunedModel:
    """What a tuner returns. The same job always describes the same model."""

    name: str
    """Name of the tuned model, stable over machines and folders: base plus a hash of data and recipe."""
    folder: Path
    trained_tokens: int
    """Tokens of the training conversations times epochs."""
    seconds: float
    """Seconds of training, as measured when it was done."""
    cost_usd: float | None
    losses: tuple[tuple[int, float], ...]
    """(step, mean training loss since the entry before)."""
    dev_losses: tuple[tuple[int, float], ...]
    """(epoch, loss per answer token on dev)."""
    recipe: Mapping[str, Any]
    """The hyperparameters used, automatic choices filled in."""
    cached: bool = False
    """True when a finished folder was found and nothing was trained."""
    hosted: bool = False
    """True when a provider keeps the weights and `folder` only says which model it is."""
    checkpoints: tuple[str, ...] = ()
    """Names of earlier states of it that can be asked too, oldest first; the task's own score on dev may choose."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know, a sentence each."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a job sends to somebody else and costs there, known before anything is sent."""

    job: str
    """Names the job, the same for the same data and recipe."""
    place: str
    """Host that the samples go to."""
    leaves: bool
    """False where that is this machine."""
    train: int
    dev: int
    """Samples that are sent; dev samples are only looked at while training."""
    megabytes: float
    tokens: int
    """Of one pass over the train samples, as counted here."""
    epochs: int
    usd: float | None
    """Dollars of the training as expected, None when its price is not known."""
    worst_usd: float | None
    """Dollars it costs at most."""
    billed: bool
    """Whether it spends money that leaves the house."""
    priced: bool
    """Whether it is known what requests to the tuned model cost."""
    finished: bool = False
    """True when the job's folder holds the finished model: nothing is sent."""
    notes: tuple[str, ...] = ()
    """What a person should know before consenting: personal data, copies, dates."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Whether a tuned model answers alike in every form it may be deployed in."""

    prompts: int
    differing: int
    """Greedy answers, over all forms but the first, that are not the first form's."""
    largest_logit_difference: float
    forms: tuple[str, ...]


class Tuner(Protocol):
    """Trains a model. `tune` may be cancelled; calling it again with the same job completes it."""

    async def parity(self, base: str, model: TunedModel, requests: Sequence[ChatRequest]) -> Parity | None:
        """Compare the forms in which the model may be deployed; None where there is only one."""

    async def tune(self, job: TuneJob, observe: TuneObserver | None = None) -> TunedModel:
        """Run the job to its end and return the model.

        Raises InputError for data or a recipe that cannot work, BackendUnavailable when the machine cannot do it, and
        RequestError, with what it cost, when a provider will not or could not train this job.
        """

    def quote(self, job: TuneJob) -> Quote | None:
        """What the job sends to others and costs there, None where it stays on this machine. Raises as `tune` does."""

    def left_running(self, job: TuneJob) -> str | None:
        """What goes on elsewhere after `tune` was cut off and how to end it, a sentence or two; None for nothing."""
