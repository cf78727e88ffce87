"""Zero-shot: the instructions and the input, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.prompt import Prompt
from backends.meter import Meter
from evals.task import Sample, Task


@dataclass(frozen=True, slots=True)
class FittedZeroShot:
    """Zero-shot with the prompt it settled on."""

    technique: ClassVar[str] = "zero_shot"
    prompt: Prompt

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Nothing was chosen."""
        return {}

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One request."""
        return (await models.complete(self.prompt.request(sample.input))).text

    def save(self, folder: Path) -> None:
        """Write the prompt."""
        write_state(folder, self.technique, {"prompt": self.prompt.as_state()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the prompt."""
        return cls(Prompt.from_state(read_state(folder)["prompt"]))


@dataclass(frozen=True, slots=True)
class ZeroShot(Technique):
    """Ask with the scenario's instructions alone."""

    name: ClassVar[str] = "zero_shot"
    summary: ClassVar[str] = "instructions only"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedZeroShot]] = FittedZeroShot

    def unfit(self, task: Task) -> str | None:
        """Always makes sense."""
        return None

    async def fit(self, task: Task, context: FitContext) -> FittedZeroShot:
        """Nothing to learn."""
        return FittedZeroShot(Prompt.of(task))
