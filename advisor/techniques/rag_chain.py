"""A prompt chain that looks up passages on its way: the input's own, or those of every question it is split into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from advisor.retrieval.retriever import Passage, Retriever
from advisor.techniques.base import FitContext, Given, GivenKind, Technique, read_state, write_state
from advisor.techniques.chain import Links, LookUp, no_chain_needed, plans, step_models, why_chain
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows, rounds_ahead
from advisor.techniques.default_chains import Plan as ChainPlan
from advisor.techniques.forecast import Ask, Plan, Prospect, Way
from advisor.techniques.rag import Compared, Rag, best_retriever, fitting, named, tried_samples
from advisor.techniques.stock import corpora, stock_of
from backends.meter import Meter
from backends.wording import counted
from evals.task import Sample, Task

_SIZES = (2, 5)
"""Passages per look-up to choose from: a chain looks up several times, so that few go a long way."""
_INDEX = "documents"


@dataclass(frozen=True, slots=True)
class FittedRagChain:
    """A chain with an index of the documents."""

    technique: ClassVar[str] = "rag+chain"
    accepts: ClassVar[frozenset[GivenKind]] = frozenset({"steps", "documents"})
    links: Links
    retriever: Retriever
    top_k: int
    context_tokens: int
    compared: tuple[Compared, ...] = ()
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The chain, how much it looks up, and what was tried on dev to choose both."""
        return {
            "plan": self.links.plan,
            "steps": self.links.names,
            "top_k": self.top_k,
            "context_tokens": self.context_tokens,
            **asdict(self.retriever.settings),
            "chunks": self.retriever.chunks,
            "compared": [asdict(row) for row in self.compared],
            "tried": as_rows(self.tried),
        }

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One request a step, a look-up before those that read."""
        return await self.links.follow(sample.input, models, self._look_up(models, None))

    async def solve_given(self, sample: Sample, models: Meter, given: Given) -> str:
        """The same with the right documents in place of what is found, or right outputs of the first steps."""
        known = self.links.known(given.steps or ())
        return await self.links.follow(sample.input, models, self._look_up(models, given.documents), known)

    def _look_up(self, models: Meter, documents: Sequence[str] | None) -> LookUp:
        """Looks every query up once."""
        known: dict[str, str] = {}

        async def look_up(query: str) -> str:
            if query not in known:
                found = await self.retriever.retrieve(query, models, self.top_k)
                known[query] = _text(fitting(found, self.context_tokens))
            return known[query]

        async def given(query: str) -> str:
            return _text(fitting(named(self.retriever, documents or ()), self.context_tokens))

        return look_up if documents is None else given

    def save(self, folder: Path) -> None:
        """Write the chain and the index."""
        state = {
            "links": self.links.as_state(),
            "top_k": self.top_k,
            "context_tokens": self.context_tokens,
            "compared": [asdict(row) for row in self.compared],
            "tried": as_rows(self.tried),
        }
        write_state(folder, self.technique, state)
        self.retriever.save(folder / _INDEX)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the chain and the index."""
        state = read_state(folder)
        return cls(
            Links.from_state(state["links"]),
            Retriever.load(folder / _INDEX),
            state["top_k"],
            state["context_tokens"],
            tuple(Compared(**row) for row in state["compared"]),
            from_rows(state["tried"]),
        )


@dataclass(frozen=True, slots=True)
class RagChain(Technique):
    """Follow a chain with the documents at hand."""

    name: ClassVar[str] = "rag+chain"
    summary: ClassVar[str] = "several prompts in a row, with passages looked up for each question on the way"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = True
    fitted: ClassVar[type[FittedRagChain]] = FittedRagChain

    plan: Literal["decompose", "revise"] | None = None
    """A default chain; None takes the scenario's own or, where there is none, chooses on dev."""
    top_k: int | None = None
    """Passages per look-up; None chooses 2 or 5 on dev."""
    context_tokens: int = 1000
    """Approximate tokens of passages before one prompt; what is beyond is left out."""

    def __post_init__(self) -> None:
        for name in ("top_k", "context_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, but must be at least 1")

    def unfit(self, task: Task) -> str | None:
        """Needs something to look up."""
        return None if task.documents else "there are no documents to retrieve from"

    def skip(self, task: Task) -> str | None:
        """One look-up is enough where one document has the answer."""
        known = [sample for sample in (*task.train, *task.dev) if sample.gold_documents]
        if known and all(len(sample.gold_documents) < 2 for sample in known) and not task.chain:
            return "every answer stands in one document, so that one look-up is enough"
        return no_chain_needed(task)

    def suits(self, task: Task) -> str:
        """Where the steps come from and what they read."""
        return f"{counted(len(task.documents), 'document')} can be searched, and {why_chain(task)}"

    def others(self, task: Task) -> tuple[str, ...]:
        """The models that steps name."""
        return step_models(self.plan, task)

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """As `chain`, with passages before the parts that read."""
        settings = Rag().settings()
        sizes = _SIZES if self.top_k is None else (self.top_k,)
        ways = [self._way(plan, size, task, prospect.seed) for plan in plans(self.plan, task) for size in sizes]
        rounds = rounds_ahead(ways, tried_samples(task, prospect.seed), prospect.seed)
        return Plan(tuple(ways), rounds, corpora=corpora(settings, task))

    def _way(self, plan: ChainPlan, size: int, task: Task, seed: int) -> Way:
        links, first = Links.of(plan, task), Rag().settings()[0]
        stock = stock_of(task.documents, first.chunk_tokens, first.overlap)

        def asks(sample: Sample) -> list[Ask]:
            found = fitting(stock.found(sample, size, seed), self.context_tokens)
            return links.planned(sample.input, _text(found))

        settled = replace(self, top_k=size) if plan == "declared" else replace(self, plan=plan, top_k=size)
        return Way(f"{plan}, {size} passages", asks, settled, embeds=True, queries=links.queries)

    async def fit(self, task: Task, context: FitContext) -> FittedRagChain:
        """Choose how the documents are searched by what is found, and chain and number of passages on dev."""
        retriever, compared = await best_retriever(Rag().settings(), task, context)
        sizes = _SIZES if self.top_k is None else (self.top_k,)
        options = {
            f"{plan}, {size} passages": FittedRagChain(
                Links.of(plan, task), retriever, size, self.context_tokens, compared
            )
            for plan in plans(self.plan, task)
            for size in sizes
        }
        solvers = {name: option.solve for name, option in options.items()}
        best, tried = await best_on_dev(solvers, context, tried_samples(task, context.seed))
        return replace(options[best], tried=tried)


def _text(passages: Sequence[Passage]) -> str:
    """Passages as they stand before an input; the best one last, next to it."""
    blocks = [f"[{one.document_id}] {one.title}".rstrip() + f"\n{one.text}" for one in reversed(passages)]
    return "\n\n".join(["Documents:", *blocks]) if blocks else ""
