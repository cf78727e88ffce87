"""The contract of a technique: hyperparameters in the constructor, data in `fit`, one sample in `solve`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from backends.meter import Meter
from backends.types import TunedModel, TuneJob
from evals.task import Sample, Task

STATE_FILE = "fitted.json"


@dataclass(frozen=True, slots=True)
class FitContext:
    """What a technique may use while it fits, besides the task's data."""

    models: Meter
    """Metered as fitting cost."""
    seed: int
    adapters: Path
    """Folder in which tuned models are kept, one folder each."""
    tune: Callable[[TuneJob], Awaitable[TunedModel]]
    """Runs a fine-tuning job on the scenario's tuner."""


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
    embeds: ClassVar[bool]
    """Whether it asks for embeddings; the embedding model is opened only then."""
    fitted: ClassVar[type[Fitted]]

    def unfit(self, task: Task) -> str | None:
        """Why this technique makes no sense for the task, or None."""

    async def fit(self, task: Task, context: FitContext) -> Fitted:
        """Learn from `task.train` (and choose on `task.dev`); `task.test` is out of bounds."""


def write_state(folder: Path, technique: str, state: Mapping[str, Any]) -> None:
    """Write the JSON part of a fitted technique."""
    text = json.dumps({"technique": technique, **state}, ensure_ascii=False, indent=1)
    (folder / STATE_FILE).write_text(text, encoding="utf-8")


def read_state(folder: Path) -> dict[str, Any]:
    """Read what write_state wrote."""
    return dict(json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
