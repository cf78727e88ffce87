"""Nearest-neighbour few-shot: for each input, the worked examples most like it (Liu et al. 2021, arXiv:2101.06804)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.prompt import Demonstration, Prompt
from backends.extras import require
from backends.meter import Meter
from backends.types import FloatArray
from evals.task import Sample, Task

_LEAF = "advisor.techniques.neighbours"


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

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How many examples are shown, out of how many."""
        return {"k": self.k, "pool": len(self.pool)}

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One embedding and one request; the nearest example stands last, next to the input."""
        query = (await models.embed([sample.input]))[0]
        nearest = self.neighbours.nearest(query, self.k)[::-1]
        shown = [self.pool[position] for position in nearest]
        return (await models.complete(self.prompt.request(sample.input, shown))).text

    def save(self, folder: Path) -> None:
        """Write prompt, pool and index."""
        pool = [asdict(demonstration) for demonstration in self.pool]
        write_state(folder, self.technique, {"prompt": self.prompt.as_state(), "pool": pool, "k": self.k})
        self.neighbours.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read prompt, pool and index."""
        state = read_state(folder)
        pool = tuple(Demonstration(**shown) for shown in state["pool"])
        neighbours = require(_LEAF, "rag").Neighbours.load(folder)
        return cls(Prompt.from_state(state["prompt"]), pool, neighbours, state["k"])


@dataclass(frozen=True, slots=True)
class KnnFewShot(Technique):
    """Show the `k` train samples nearest to each input."""

    name: ClassVar[str] = "knn_few_shot"
    summary: ClassVar[str] = "the worked examples nearest to each input, by embedding"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = True
    fitted: ClassVar[type[FittedKnnFewShot]] = FittedKnnFewShot

    k: int = 8
    """Number of examples shown."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}, but at least one example must be shown")

    def unfit(self, task: Task) -> str | None:
        """Needs a pool to choose from."""
        if len(task.train) > self.k:
            return None
        return f"{len(task.train)} train samples leave nothing to choose {self.k} from"

    def suits(self, task: Task) -> str:
        """There are more examples than fit a prompt."""
        return f"{len(task.train)} train samples are a pool to choose from"

    async def fit(self, task: Task, context: FitContext) -> FittedKnnFewShot:
        """Embed and index the train inputs."""
        vectors = await context.models.embed([sample.input for sample in task.train])
        pool = tuple(Demonstration.of(sample) for sample in task.train)
        return FittedKnnFewShot(Prompt.of(task), pool, require(_LEAF, "rag").Neighbours.of(vectors), self.k)
