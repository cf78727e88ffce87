"""Fine-tuning: teach a model the train answers, then ask it with a short instruction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.prompt import Prompt
from backends.meter import Meter
from backends.types import Message, TunedModel, TuneJob
from evals.task import Sample, Task

Instruction = Literal["short", "full"]


@dataclass(frozen=True, slots=True)
class FittedFineTune:
    """A tuned model with the short prompt it was taught."""

    technique: ClassVar[str] = "fine_tune"
    prompt: Prompt
    model: TunedModel

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The recipe, and what training gave."""
        return {
            "model": self.model.name,
            "instructions": self.prompt.instructions,
            "recipe": dict(self.model.recipe),
            "trained_tokens": self.model.trained_tokens,
        }

    @property
    def tuned(self) -> tuple[str, Path]:
        """The tuned model."""
        return self.model.name, self.model.folder

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One short request."""
        return (await models.complete(self.prompt.request(sample.input))).text

    def save(self, folder: Path) -> None:
        """Write the prompt and where the tuned model lies."""
        model = asdict(self.model) | {"folder": str(self.model.folder)}
        write_state(folder, self.technique, {"prompt": self.prompt.as_state(), "model": model})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the prompt and where the tuned model lies."""
        state = read_state(folder)
        model = state["model"]
        pairs = {name: tuple((step, loss) for step, loss in model[name]) for name in ("losses", "dev_losses")}
        return cls(Prompt.from_state(state["prompt"]), TunedModel(**model | pairs | {"folder": Path(model["folder"])}))


@dataclass(frozen=True, slots=True)
class FineTune(Technique):
    """Tune `base` on the train samples."""

    name: ClassVar[str] = "fine_tune"
    summary: ClassVar[str] = "a model taught the train answers, asked with a short instruction"
    tunes: ClassVar[bool] = True
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedFineTune]] = FittedFineTune

    base: str = "local/smollm2-135m"
    instruction: Instruction = "short"
    """`short` teaches the task's name instead of its instructions: fewer tokens in every later request."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters for the tuner; what is left out is chosen by the size of the data."""

    def unfit(self, task: Task) -> str | None:
        """Needs something to learn from (providers ask for at least 10 examples)."""
        return None if len(task.train) >= 10 else f"{len(task.train)} train samples are too few to tune on"

    def suits(self, task: Task) -> str:
        """There is something to learn from."""
        return f"{len(task.train)} train samples can be learnt from, when nothing cheaper meets the target"

    async def fit(self, task: Task, context: FitContext) -> FittedFineTune:
        """Train; the dev samples choose the epoch that is kept."""
        prompt = Prompt.of(task)
        if self.instruction == "short":
            prompt = prompt.shortened(task.name.replace("_", " "))
        train, dev = (_conversations(prompt, samples) for samples in (task.train, task.dev))
        content = json.dumps(
            [self.base, dict(self.recipe), context.seed, *([_plain(c) for c in split] for split in (train, dev))]
        )
        folder = context.adapters / hashlib.sha256(content.encode()).hexdigest()[:16]
        return FittedFineTune(
            prompt, await context.tune(TuneJob(self.base, train, dev, context.seed, folder, self.recipe))
        )


def _conversations(prompt: Prompt, samples: tuple[Sample, ...]) -> tuple[tuple[Message, ...], ...]:
    return tuple((*prompt.messages(sample.input), Message("assistant", sample.target)) for sample in samples)


def _plain(conversation: tuple[Message, ...]) -> list[list[str]]:
    return [[message.role, message.content] for message in conversation]
