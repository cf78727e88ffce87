"""The contract of a technique: hyperparameters in the constructor, data in `fit`, one sample in `solve`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from advisor.techniques.forecast import Plan, Prospect
from backends.meter import Meter
from backends.types import TunedModel, TuneJob
from evals.runner import Solve
from evals.task import Sample, Task
from evals.trial import Trial

STATE_FILE = "fitted.json"


@dataclass(frozen=True, slots=True)
class FitContext:
    """What a technique may use while it fits, besides the task's data."""

    models: Meter
    """Metered as fitting cost."""
    seed: int
    adapters: Path
    """Folder in which tuned models are kept, one folder each."""
    indexes: Path
    """Folder in which indexes of documents are kept, one folder each, named by the hash of what they hold."""
    tune: Callable[[TuneJob], Awaitable[TunedModel]]
    """Runs a fine-tuning job on the scenario's tuner."""
    trials: Callable[[str, Solve, Sequence[Sample]], Awaitable[list[Trial]]]
    """Tries one choice, named by the first argument, on train or dev samples with the scenario's scorer; metered as
    fitting cost, stored, and not paid for again on resume. The same name must always mean the same choice."""
    note: Callable[[str, int, int], None] = lambda what, done, total: None
    """Tells the user where a long fit is: what is done, how much of how much."""
    start: Path | None = None
    """Folder of a fitted technique of a former run whose tuned model a training goes on from."""
    tuned_trials: Callable[[str, Path, Solve, Sequence[Sample]], Awaitable[list[Trial]]] | None = None
    """As `trials`, on the tuned model of this name and folder, which names the choice; None where none can be tried."""


@dataclass(frozen=True, slots=True)
class Given:
    """Right intermediate results handed to a candidate, to see whether it fails without them."""

    documents: tuple[str, ...] | None = None
    """Ids of the documents to read, in place of a retrieval."""
    tool_results: tuple[str, ...] | None = None
    """What the tools gave, in place of calls."""
    steps: tuple[str, ...] | None = None
    """Outputs of the first steps of a chain, in their order."""


GivenKind = Literal["documents", "tool_results", "steps"]


@runtime_checkable
class Ablatable(Protocol):
    """A Fitted technique that can be helped out, for a diagnosis."""

    accepts: ClassVar[frozenset[GivenKind]]

    async def solve_given(self, sample: Sample, models: Meter, given: Given) -> str:
        """Answer one sample with what is given. Must not look at `sample.target`."""


class Fitted(Protocol):
    """A technique that has seen the data: solves one sample with metered models; can be saved, loaded and served."""

    technique: ClassVar[str]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the report shows: hyperparameters and what `fit` chose."""

    @property
    def tuned(self) -> tuple[str, Path] | None:
        """Name and folder of the tuned model it answers with, or None when it answers with the candidate's own."""

    async def solve(self, sample: Sample, models: Meter) -> str:
        """Answer one sample. Must not look at `sample.target`."""

    def save(self, folder: Path) -> None:
        """Write everything `load` needs into an existing folder."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""


class Technique(Protocol):
    """A frozen dataclass of hyperparameters."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """What it does, in half a sentence."""
    tunes: ClassVar[bool]
    """Whether fitting trains a model; such candidates wait until the ladder escalates."""
    fitted: ClassVar[type[Fitted]]

    @property
    def embeds(self) -> bool:
        """Whether it asks for embeddings; the embedding model is opened only then."""

    def unfit(self, task: Task) -> str | None:
        """Why this technique cannot be used on the task, or None."""

    def skip(self, task: Task) -> str | None:
        """Why `techniques: auto` leaves it out although it could be used, or None."""
        return None

    def suits(self, task: Task) -> str:
        """Why `techniques: auto` takes it, in half a sentence about the task."""
        return "every task has instructions"

    def others(self, task: Task) -> tuple[str, ...]:
        """Names of chat models it asks besides the candidate's own."""
        return ()

    def forecast(self, task: Task, prospect: Prospect) -> Plan | None:
        """What fitting and answering will ask, told without asking; None when it cannot be told."""
        return None

    async def fit(self, task: Task, context: FitContext) -> Fitted:
        """Learn from `task.train` (and choose on `task.dev`); `task.test` is out of bounds."""


def write_state(folder: Path, technique: str, state: Mapping[str, Any]) -> None:
    """Write the JSON part of a fitted technique."""
    text = json.dumps({"technique": technique, **state}, ensure_ascii=False, indent=1)
    (folder / STATE_FILE).write_text(text, encoding="utf-8")


def read_state(folder: Path) -> dict[str, Any]:
    """Read what write_state wrote."""
    return dict(json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
