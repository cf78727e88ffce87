"""Nearest-neighbour few-shot: for each input, the worked examples most like it (Liu et al. 2021, arXiv:2101.06804).

How many are shown, and whether the nearest stands next to the input, is chosen on dev.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows, rounds_ahead
from advisor.techniques.forecast import Ask, Corpus, Plan, Prospect, Way, stand_ins
from advisor.techniques.prompt import Demonstration, Prompt, fitting_sizes
from backends.extras import require
from backends.meter import Meter
from backends.types import FloatArray
from backends.wording import agreeing, counted
from evals.task import Sample, Task

Order = Literal["nearest_last", "nearest_first"]

_LEAF = "advisor.techniques.neighbours"
_SIZES = (4, 8, 16)


class _Neighbours(Protocol):
    def nearest(self, query: FloatArray, k: int) -> npt.NDArray[np.int64]: ...

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class FittedKnnFewShot:
    """Nearest-neighbour few-shot over an index of the train inputs."""

    technique: ClassVar[str] = "knn_few_shot"
    prompt: Prompt
    pool: tuple[Demonstration, ...]
    neighbours: _Neighbours
    k: int
    order: Order = "nearest_last"
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How many examples are shown, out of how many, in which order, and what was tried on dev."""
        return {"k": self.k, "pool": len(self.pool), "order": self.order, "tried": as_rows(self.tried)}

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One embedding and one request."""
        query = (await models.embed([sample.input]))[0]
        shown = [self.pool[position] for position in self.neighbours.nearest(query, self.k)]
        if self.order == "nearest_last":
            shown.reverse()
        return (await models.complete(self.prompt.request(sample.input, shown))).text

    def save(self, folder: Path) -> None:
        """Write prompt, pool and index."""
        pool = [asdict(demonstration) for demonstration in self.pool]
        chosen = {"k": self.k, "order": self.order, "tried": as_rows(self.tried)}
        write_state(folder, self.technique, {"prompt": self.prompt.as_state(), "pool": pool, **chosen})
        self.neighbours.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read prompt, pool and index."""
        state = read_state(folder)
        pool = tuple(Demonstration(**shown) for shown in state["pool"])
        neighbours = require(_LEAF, "rag").Neighbours.load(folder)
        prompt, tried = Prompt.from_state(state["prompt"]), from_rows(state["tried"])
        return cls(prompt, pool, neighbours, state["k"], state["order"], tried)


@dataclass(frozen=True, slots=True)
class KnnFewShot(Technique):
    """Show the `k` train samples nearest to each input."""

    name: ClassVar[str] = "knn_few_shot"
    summary: ClassVar[str] = "the worked examples nearest to each input, by embedding"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = True
    fitted: ClassVar[type[FittedKnnFewShot]] = FittedKnnFewShot

    k: int | None = None
    """Number of examples shown; None chooses 4, 8 or 16 on dev."""
    order: Order | None = None
    """Where the nearest example stands; None chooses on dev, or takes `nearest_last` with a given k."""

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise ValueError(f"k is {self.k}, but at least one example must be shown")

    def unfit(self, task: Task) -> str | None:
        """Needs a pool to choose from."""
        fewest = self.k or _SIZES[0]
        if len(task.train) > fewest:
            return None
        leave = agreeing(len(task.train), "leaves", "leave")
        return f"{counted(len(task.train), 'train sample')} {leave} nothing to choose {fewest} from"

    def suits(self, task: Task) -> str:
        """There are more examples than fit a prompt."""
        return f"{len(task.train)} train samples are a pool to choose from"

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """One request, as many examples first as any would be; the train inputs embedded once and every input too."""
        prompt = Prompt.of(task)
        pool = [Demonstration.of(sample) for sample in task.train]
        ways = [_way(prompt, pool, k, order, prospect.seed) for k, order in self._choices(task, prompt)]
        rounds = rounds_ahead(ways, task.dev, prospect.seed)
        return Plan(tuple(ways), rounds, corpora=(train_inputs(task),))

    async def fit(self, task: Task, context: FitContext) -> FittedKnnFewShot:
        """Embed and index the train inputs; choose on dev how many are shown and in which order."""
        vectors = await context.models.embed([sample.input for sample in task.train])
        prompt, neighbours = Prompt.of(task), require(_LEAF, "rag").Neighbours.of(vectors)
        pool = tuple(Demonstration.of(sample) for sample in task.train)
        options = {
            f"k={k} {order}": FittedKnnFewShot(prompt, pool, neighbours, k, order)
            for k, order in self._choices(task, prompt)
        }
        solves = {name: option.solve for name, option in options.items()}
        winner, tried = await best_on_dev(solves, context, task.dev)
        return replace(options[winner], tried=tried)

    def _choices(self, task: Task, prompt: Prompt) -> list[tuple[int, Order]]:
        """At most four: every size in one order, and one size in the other order."""
        if self.k is not None:
            return [(self.k, self.order or "nearest_last")]
        sizes = fitting_sizes([k for k in _SIZES if k < len(task.train)], prompt, task.train)
        choices: list[tuple[int, Order]] = [(k, self.order or "nearest_last") for k in sizes]
        if self.order is None and sizes[-1] > 1:
            choices.append((sizes[len(sizes) // 2], "nearest_first"))
        return choices


def train_inputs(task: Task) -> Corpus:
    """What an index of worked examples embeds."""
    return Corpus("train inputs", tuple(sample.input for sample in task.train), len(task.train))


def _way(prompt: Prompt, pool: Sequence[Demonstration], k: int, order: Order, seed: int) -> Way:
    def asks(sample: Sample) -> list[Ask]:
        return [Ask(prompt.request(sample.input, stand_ins(pool, k, sample, seed)))]

    return Way(f"k={k} {order}", asks, KnnFewShot(k, order), embeds=True)
