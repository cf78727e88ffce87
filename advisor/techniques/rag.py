"""Retrieval-augmented generation: passages of the documents are found for each input and read before it is answered.

Lewis et al. 2020, arXiv:2005.11401, with the retriever and the reader as they are. How the documents are cut and
searched is chosen by the quality of the retrieval alone, which takes no requests; how many passages are read is chosen
by answers on dev.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar, Self

from advisor.retrieval.chunks import approximate_tokens, shortened
from advisor.retrieval.metrics import coverage
from advisor.retrieval.retriever import Mode, Passage, RetrievalSettings, Retriever
from advisor.techniques.base import FitContext, Fitted, Given, GivenKind, Technique, read_state, write_state
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows, rounds_ahead
from advisor.techniques.forecast import Ask, Plan, Prospect, Way
from advisor.techniques.prompt import Demonstration, Prompt
from advisor.techniques.stock import corpora, stock_of
from backends.errors import RequestError
from backends.meter import Meter
from backends.types import ChatRequest
from backends.wording import counted
from evals.task import Sample, Task

UNANSWERABLE = "not in the documents"
"""What is answered, word for word, when `allow_unanswerable` is set and no passage holds the answer."""

_SIZES = (1, 3, 5)
_TRIED_SAMPLES = 24
"""Dev samples that numbers of passages are tried on; prompts with passages are long, so these requests are dear."""
_QUESTIONS = 200
"""Questions that retrievals are compared on."""
_DEPTH = 20
_MOST_TOKENS = 400_000
"""Of all documents, for cutting them in several ways: embedding each way takes over a minute on two cores."""
_CHUNKS = ((200, 40), (100, 25))
"""Approximate tokens of a chunk and of its overlap; a longer one may not fit an embedder's window."""
_SYSTEM = "You answer from documents."
_FOLDER = "documents"
_CITATION_TOKENS = 32
_TOO_LONG = re.compile(r"context.?(window|length)|too (long|large|many tokens)|maximum context|memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Compared:
    """How well one way of cutting and searching the documents found what answers rest on."""

    mode: Mode
    chunk_tokens: int
    overlap: int
    n: int
    """Questions of train and dev it was tried on."""
    coverage: float
    """Mean of advisor.retrieval.metrics.coverage."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Finds passages and puts them before the input."""

    prompt: Prompt
    """Its instructions say how documents are read."""
    retriever: Retriever
    top_k: int
    context_tokens: int

    async def read(
        self, text: str, passages: Sequence[Passage], models: Meter, shown: Sequence[Demonstration] = ()
    ) -> str:
        """Answer from these passages, best first; where they are too many for the model's window, from the better half.

        Every attempt is a step: `read` with the answer, or `too long` with the ids of what could not be read.
        """
        while True:
            with models.step("read") as step:
                try:
                    step.output = (await models.complete(self.request(text, passages, shown))).text
                    return step.output
                except RequestError as error:
                    if len(passages) < 2 or not _TOO_LONG.search(str(error)):
                        raise
                    step.name, step.output = "too long", json.dumps(ids(passages))
                    passages = passages[: len(passages) // 2]

    async def find(self, text: str, models: Meter) -> tuple[Passage, ...]:
        """The passages for an input, best first, as many as the context holds; a step `left out` names the others."""
        found = await self.retriever.retrieve(text, models, self.top_k)
        kept = fitting(found, self.context_tokens)
        if len(kept) < len(found):
            with models.step("left out") as step:
                step.output = json.dumps(ids(found[len(kept) :]))
        return kept

    def request(self, text: str, passages: Sequence[Passage], shown: Sequence[Demonstration] = ()) -> ChatRequest:
        """Passages and input as one turn; the best passage stands last, next to the input.

        Instructions that no examples follow stand between the passages and the input: small models have forgotten them
        otherwise (on 84 dev questions of XQuAD, SmolLM2-135M reaches a token F1 of 0.13 against 0.12, in fewer words).
        """
        return reading(self.prompt, text, passages, shown)

    def as_state(self) -> dict[str, Any]:
        """JSON-ready form of all but the retriever."""
        return {"prompt": self.prompt.as_state(), "top_k": self.top_k, "context_tokens": self.context_tokens}

    def save(self, folder: Path) -> None:
        """Write the index."""
        self.retriever.save(folder / _FOLDER)

    @classmethod
    def load(cls, state: Mapping[str, Any], folder: Path) -> Self:
        """Read what as_state and save gave."""
        retriever = Retriever.load(folder / _FOLDER)
        return cls(Prompt.from_state(state["prompt"]), retriever, state["top_k"], state["context_tokens"])


def reading(prompt: Prompt, text: str, passages: Sequence[Passage], shown: Sequence[Demonstration] = ()) -> ChatRequest:
    """What `Reader.request` asks."""
    blocks = [f"[{one.document_id}] {one.title}".rstrip() + f"\n{one.text}" for one in reversed(passages)]
    if shown:
        return prompt.request("\n\n".join([*blocks, text]), shown)
    return prompt.shortened(_SYSTEM).request("\n\n".join([*blocks, prompt.instructions, text]))


@dataclass(frozen=True, slots=True)
class FittedRag:
    """Retrieval-augmented generation with its documents indexed."""

    technique: ClassVar[str] = "rag"
    accepts: ClassVar[frozenset[GivenKind]] = frozenset({"documents"})
    reader: Reader
    compared: tuple[Compared, ...] = ()
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How documents are cut, searched and read, and what was compared to choose that."""
        return described(self.reader, self.compared, self.tried)

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One retrieval and one request."""
        return await self.reader.read(sample.input, await self.reader.find(sample.input, models), models)

    async def solve_given(self, sample: Sample, models: Meter, given: Given) -> str:
        """Read the documents named, whole, in place of a retrieval."""
        if given.documents is None:
            return await self.solve(sample, models)
        return await self.reader.read(sample.input, named(self.reader.retriever, given.documents), models)

    def save(self, folder: Path) -> None:
        """Write prompt, choices and index."""
        chosen = {"compared": [asdict(row) for row in self.compared], "tried": as_rows(self.tried)}
        write_state(folder, self.technique, {**self.reader.as_state(), **chosen})
        self.reader.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read prompt, choices and index."""
        state = read_state(folder)
        compared = tuple(Compared(**row) for row in state["compared"])
        return cls(Reader.load(state, folder), compared, from_rows(state["tried"]))


@dataclass(frozen=True, slots=True)
class Rag(Technique):
    """Answer from the `top_k` passages nearest to each input."""

    name: ClassVar[str] = "rag"
    summary: ClassVar[str] = "passages of the documents, found for each input"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = True
    fitted: ClassVar[type[Fitted]] = FittedRag

    mode: Mode | None = None
    """Search by meaning (`dense`), by words (`bm25`) or both (`hybrid`); None chooses by what is found."""
    top_k: int | None = None
    """Passages read; None chooses 1, 3 or 5 on dev."""
    chunk_tokens: int | None = None
    """Longest passage in approximate tokens; None chooses 200 or 100 by what is found."""
    overlap: int | None = None
    """Approximate tokens a passage repeats of the one before; None takes a fifth of `chunk_tokens`."""
    rerank: str | None = None
    """Name of a cross-encoder that orders the best 20 passages anew."""
    context_tokens: int = 1500
    """Approximate tokens of passages in a prompt; what is beyond is left out."""
    cite: bool = False
    """Have the answer name the documents it rests on as `[id]`."""
    allow_unanswerable: bool = False
    """Have the model answer `not in the documents` where they do not hold the answer."""

    def __post_init__(self) -> None:
        for name in ("top_k", "chunk_tokens", "context_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, but must be at least 1")
        if self.overlap is not None and not 0 <= self.overlap <= (self.chunk_tokens or _CHUNKS[0][0]) // 2:
            raise ValueError(f"overlap is {self.overlap}, but must be from 0 to half of chunk_tokens")

    def unfit(self, task: Task) -> str | None:
        """Needs documents, and answers that leave room for what is asked beside them."""
        if not task.documents:
            return "there are no documents to search"
        if self.cite and (task.labels or task.output_schema):
            return "answers from a closed set or in JSON leave no room for citations"
        if self.allow_unanswerable and task.output_schema:
            return f"the answer {UNANSWERABLE!r} would break the output schema"
        return None

    def suits(self, task: Task) -> str:
        """There are documents."""
        return f"{counted(len(task.documents), 'document')} can be searched"

    async def fit(self, task: Task, context: FitContext) -> Fitted:
        """Choose how the documents are cut and searched, then how many passages are read."""
        reader, compared = await self.reader(task, context)
        options = {self.label(sized): FittedRag(sized, compared) for sized in self.sized(reader)}
        winner, tried = await best_on_dev(
            {name: option.solve for name, option in options.items()}, context, tried_samples(task, context.seed)
        )
        return replace(options[winner], tried=tried)

    async def reader(self, task: Task, context: FitContext) -> tuple[Reader, tuple[Compared, ...]]:
        """The best retriever there is, with a prompt that says how to read."""
        retriever, compared = await best_retriever(self.settings(), task, context)
        return Reader(self.prompt(task), retriever, self.top_k or _SIZES[0], self.context_tokens), compared

    def settings(self) -> list[RetrievalSettings]:
        """The ways of cutting and searching to choose from, the one to prefer first."""
        sizes: tuple[tuple[int, int], ...] = _CHUNKS
        if self.chunk_tokens is not None or self.overlap is not None:
            tokens = self.chunk_tokens or _CHUNKS[0][0]
            sizes = ((tokens, tokens // 5 if self.overlap is None else self.overlap),)
        modes: tuple[Mode, ...] = ("hybrid", "dense", "bm25") if self.mode is None else (self.mode,)
        return [RetrievalSettings(mode, tokens, overlap, self.rerank) for tokens, overlap in sizes for mode in modes]

    def prompt(self, task: Task) -> Prompt:
        """The task's prompt, with what is to be done with documents."""
        prompt = Prompt.of(task)
        said = [prompt.instructions, "Answer from the documents before the input."]
        if self.allow_unanswerable:
            said.append(f"If they do not hold the answer, answer exactly: {UNANSWERABLE}")
        if self.cite:
            said.append("After the answer, name the documents it rests on by their ids, like this: [id].")
        if self.allow_unanswerable and prompt.choices:
            prompt = replace(prompt, choices=tuple(dict.fromkeys((*prompt.choices, UNANSWERABLE))))
        tokens = prompt.max_tokens + (_CITATION_TOKENS if self.cite else 0)
        return replace(prompt, instructions="\n".join(said), max_tokens=tokens)

    def sized(self, reader: Reader) -> list[Reader]:
        """The reader with each number of passages to choose from that the context can hold."""
        return [replace(reader, top_k=k) for k in self._sizes(reader.retriever.settings)]

    def _sizes(self, settings: RetrievalSettings) -> list[int]:
        if self.top_k is not None:
            return [self.top_k]
        most = max(1, self.context_tokens // settings.chunk_tokens)
        return [k for k in _SIZES if k <= most]

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """One request with as many passages as any would be; documents embedded once and every input too."""
        prompt = self.prompt(task)
        return self.planned(task, prospect, lambda sample, found: Ask(reading(prompt, sample.input, found)))

    def planned(self, task: Task, prospect: Prospect, ask: Callable[[Sample, Sequence[Passage]], Ask]) -> Plan:
        """The plan of a technique that asks so with what is found."""
        settings = self.settings()
        stock = stock_of(task.documents, settings[0].chunk_tokens, settings[0].overlap)

        def way(k: int) -> Way:
            def asks(sample: Sample) -> list[Ask]:
                return [ask(sample, fitting(stock.found(sample, k, prospect.seed), self.context_tokens))]

            return Way(f"{k} passages", asks, replace(self, top_k=k), embeds=settings[0].mode != "bm25")

        ways = tuple(way(k) for k in self._sizes(settings[0]))
        rounds = rounds_ahead(ways, tried_samples(task, prospect.seed), prospect.seed)
        return Plan(ways, rounds, corpora=corpora(settings, task))

    def label(self, reader: Reader) -> str:
        """Names an option of `sized` among all that were ever tried."""
        found = reader.retriever.settings
        return f"{reader.top_k} passages {found.mode} {found.chunk_tokens}/{found.overlap}"


async def best_retriever(
    settings: Sequence[RetrievalSettings], task: Task, context: FitContext
) -> tuple[Retriever, tuple[Compared, ...]]:
    """The settings that find best what the answers of dev and train rest on, and how all of them did.

    The first settings are preferred: others win by more than one standard error of the paired difference. Where the
    samples show neither gold documents nor answers that stand in the documents, the first settings are taken.
    """
    questions = _questions(task, context.seed)
    if sum(approximate_tokens(document.text) for document in task.documents) > _MOST_TOKENS:
        settings = [one for one in settings if one.chunk_tokens == settings[0].chunk_tokens]
    if len(settings) < 2 or not questions:
        return await _built(settings[0], task, context), ()
    best: tuple[Retriever, list[float]] | None = None
    compared = []
    for number, one in enumerate(settings):
        context.note("retrievals compared", number, len(settings))
        retriever = await _built(one, task, context)
        rankings = await retriever.rankings([sample.input for sample in questions], context.models, _DEPTH)
        scores = [_coverage(sample, found) for sample, found in zip(questions, rankings, strict=True)]
        compared.append(Compared(one.mode, one.chunk_tokens, one.overlap, len(questions), fmean(scores)))
        if best is None or _better(scores, best[1]):
            best = retriever, scores
    assert best is not None
    return best[0], tuple(compared)


async def _built(settings: RetrievalSettings, task: Task, context: FitContext) -> Retriever:
    return await Retriever.build(task.documents, context.models, context.indexes, settings)


def _questions(task: Task, seed: int) -> list[Sample]:
    """Samples of dev, then of train, of which it is known what is to be found."""
    text = "\n".join(document.text for document in task.documents).casefold()
    drawn = [
        sample
        for split in (task.dev, task.train)
        for sample in random.Random(f"{seed}:retrieval").sample(list(split), len(split))
    ]
    known = (
        one
        for one in drawn
        if one.gold_documents or (not task.labels and _tells(one) and one.target.casefold() in text)
    )
    return list(itertools.islice(known, _QUESTIONS))


def _tells(sample: Sample) -> bool:
    """Whether a passage that holds the target is likely to be where the answer comes from: `no` stands everywhere."""
    return len(sample.target) > 3 or any(map(str.isdigit, sample.target))


def _coverage(sample: Sample, passages: Sequence[Passage]) -> float:
    return coverage(passages, sample.gold_documents, sample.target if _tells(sample) else "")


def _better(scores: Sequence[float], than: Sequence[float]) -> bool:
    differences = [one - other for one, other in zip(scores, than, strict=True)]
    if len(differences) < 2:
        return False
    return fmean(differences) > stdev(differences) / math.sqrt(len(differences))


def tried_samples(task: Task, seed: int) -> list[Sample]:
    """The dev samples that numbers of passages are tried on."""
    return random.Random(f"{seed}:passages").sample(list(task.dev), min(_TRIED_SAMPLES, len(task.dev)))


def fitting(passages: Sequence[Passage], tokens: int) -> tuple[Passage, ...]:
    """The first passages that together have at most about so many tokens; of one that is too long, its beginning."""
    kept: list[Passage] = []
    for passage in passages:
        size = approximate_tokens(f"[{passage.document_id}] {passage.title}\n{passage.text}")
        if size > tokens and not kept:
            kept.append(replace(passage, text=shortened(passage.text, tokens)))
        if size > tokens:
            break
        kept.append(passage)
        tokens -= size
    return tuple(kept)


def named(retriever: Retriever, documents: Sequence[str]) -> tuple[Passage, ...]:
    """All passages of the documents named. Raises RequestError when none of them exists."""
    found = retriever.gold(documents)
    if not found:
        raise RequestError(f"none of the documents {', '.join(documents)} is among the task's")
    return found


def ids(passages: Sequence[Passage]) -> list[str]:
    """The documents that passages are of, each once."""
    return list(dict.fromkeys(passage.document_id for passage in passages))


def described(reader: Reader, compared: Sequence[Compared], tried: Sequence[Tried]) -> dict[str, Any]:
    """What the report shows of a retrieval."""
    settings = asdict(reader.retriever.settings)
    rows = {"compared": [asdict(row) for row in compared], "tried": as_rows(tried)}
    shown = {"top_k": reader.top_k, "context_tokens": reader.context_tokens, "chunks": reader.retriever.chunks}
    return {**settings, **shown, **rows}
