"""Retrieval-augmented generation with the worked examples nearest to each input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from advisor.retrieval.retriever import Passage
from advisor.techniques.base import FitContext, Fitted, Given, GivenKind, read_state, write_state
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows
from advisor.techniques.forecast import Ask, Plan, Prospect, stand_ins
from advisor.techniques.knn_few_shot import train_inputs
from advisor.techniques.prompt import Demonstration
from advisor.techniques.rag import Compared, Rag, Reader, described, named, reading, tried_samples
from backends.extras import require
from backends.meter import Meter
from backends.types import FloatArray
from backends.wording import agreeing, counted
from evals.task import Sample, Task

_LEAF = "advisor.techniques.neighbours"
_FOLDER = "examples"


class _Neighbours(Protocol):
    def nearest(self, query: FloatArray, k: int) -> npt.NDArray[np.int64]: ...

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class FittedRagFewShot:
    """Documents and train samples, both indexed."""

    technique: ClassVar[str] = "rag+knn_few_shot"
    accepts: ClassVar[frozenset[GivenKind]] = frozenset({"documents"})
    reader: Reader
    pool: tuple[Demonstration, ...]
    neighbours: _Neighbours
    k: int
    compared: tuple[Compared, ...] = ()
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How many examples are shown, and what `rag` shows."""
        return {"k": self.k, "pool": len(self.pool), **described(self.reader, self.compared, self.tried)}

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One retrieval of passages, one of examples, one request."""
        passages = await self.reader.find(sample.input, models)
        return await self.reader.read(sample.input, passages, models, await self._examples(sample, models))

    async def solve_given(self, sample: Sample, models: Meter, given: Given) -> str:
        """Read the documents named, whole, in place of a retrieval; the examples stay."""
        if given.documents is None:
            return await self.solve(sample, models)
        passages = named(self.reader.retriever, given.documents)
        return await self.reader.read(sample.input, passages, models, await self._examples(sample, models))

    async def _examples(self, sample: Sample, models: Meter) -> list[Demonstration]:
        """The nearest examples, nearest last; without passages, which would make the prompt several times longer."""
        with models.step("examples"):
            query = (await models.embed([sample.input]))[0]
        return [self.pool[position] for position in self.neighbours.nearest(query, self.k)[::-1]]

    def save(self, folder: Path) -> None:
        """Write prompt, choices, examples and both indexes."""
        chosen = {"compared": [asdict(row) for row in self.compared], "tried": as_rows(self.tried)}
        examples = {"pool": [asdict(shown) for shown in self.pool], "k": self.k}
        write_state(folder, self.technique, {**self.reader.as_state(), **chosen, **examples})
        self.reader.save(folder)
        (folder / _FOLDER).mkdir()
        self.neighbours.save(folder / _FOLDER)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what save wrote."""
        state = read_state(folder)
        return cls(
            Reader.load(state, folder),
            tuple(Demonstration(**shown) for shown in state["pool"]),
            require(_LEAF, "rag").Neighbours.load(folder / _FOLDER),
            state["k"],
            tuple(Compared(**row) for row in state["compared"]),
            from_rows(state["tried"]),
        )


@dataclass(frozen=True, slots=True)
class RagFewShot(Rag):
    """Answer from the nearest passages, after the `k` nearest worked examples."""

    name: ClassVar[str] = "rag+knn_few_shot"
    summary: ClassVar[str] = "passages of the documents and the nearest worked examples, found for each input"
    fitted: ClassVar[type[Fitted]] = FittedRagFewShot

    k: int = 3
    """Number of examples shown."""

    def __post_init__(self) -> None:
        # Slots make a new class of this one, which `super()` without arguments does not know.
        Rag.__post_init__(self)
        if self.k < 1:
            raise ValueError(f"k is {self.k}, but at least one example must be shown")

    def unfit(self, task: Task) -> str | None:
        """Needs documents, and a pool of examples to choose from."""
        if len(task.train) <= self.k:
            leave = agreeing(len(task.train), "leaves", "leave")
            return f"{counted(len(task.train), 'train sample')} {leave} nothing to choose {self.k} from"
        return Rag.unfit(self, task)

    def suits(self, task: Task) -> str:
        """There are documents and examples."""
        return f"{Rag.suits(self, task)} and {counted(len(task.train), 'train sample')} shown"

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """As `rag`, with examples; the train inputs are embedded too."""
        prompt, pool = self.prompt(task), [self._example(sample) for sample in task.train]

        def ask(sample: Sample, found: Sequence[Passage]) -> Ask:
            return Ask(reading(prompt, sample.input, found, stand_ins(pool, self.k, sample, prospect.seed)))

        plan = self.planned(task, prospect, ask)
        return replace(plan, corpora=(*plan.corpora, train_inputs(task)))

    async def fit(self, task: Task, context: FitContext) -> FittedRagFewShot:
        """Choose as `rag` does, and index the train inputs."""
        reader, compared = await self.reader(task, context)
        vectors = await context.models.embed([sample.input for sample in task.train])
        neighbours = require(_LEAF, "rag").Neighbours.of(vectors)
        pool = tuple(self._example(sample) for sample in task.train)
        options = {
            f"{self.k} examples {self.label(sized)}": FittedRagFewShot(sized, pool, neighbours, self.k, compared)
            for sized in self.sized(reader)
        }
        winner, tried = await best_on_dev(
            {name: option.solve for name, option in options.items()}, context, tried_samples(task, context.seed)
        )
        return replace(options[winner], tried=tried)

    def _example(self, sample: Sample) -> Demonstration:
        """A worked example; with its gold documents cited, where answers are to cite."""
        cited = "".join(f" [{document}]" for document in sample.gold_documents) if self.cite else ""
        return Demonstration(sample.input, sample.target + cited)
