"""Zero-shot: the instructions and the input, nothing else; how the instructions are put is chosen on dev."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows, rounds_ahead
from advisor.techniques.forecast import Plan, Prospect, Way
from advisor.techniques.instructions import INSTRUCTIONS, Instruction, answered, planned
from advisor.techniques.prompt import Prompt
from backends.meter import Meter
from evals.task import Sample, Task


@dataclass(frozen=True, slots=True)
class FittedZeroShot:
    """Zero-shot with the instructions it settled on."""

    technique: ClassVar[str] = "zero_shot"
    prompt: Prompt
    instruction: Instruction = "plain"
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How the instructions are put, and what was tried on dev."""
        return {"instruction": self.instruction, "tried": as_rows(self.tried)}

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One request; two where the model thinks before it answers in a fixed form."""
        return await answered(self.prompt, self.instruction, sample.input, models)

    def save(self, folder: Path) -> None:
        """Write prompt and choice."""
        state = {"prompt": self.prompt.as_state(), "instruction": self.instruction, "tried": as_rows(self.tried)}
        write_state(folder, self.technique, state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read prompt and choice."""
        state = read_state(folder)
        return cls(Prompt.from_state(state["prompt"]), state["instruction"], from_rows(state["tried"]))


@dataclass(frozen=True, slots=True)
class ZeroShot(Technique):
    """Ask with the scenario's instructions alone."""

    name: ClassVar[str] = "zero_shot"
    summary: ClassVar[str] = "instructions only"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedZeroShot]] = FittedZeroShot

    instruction: Instruction | None = None
    """How the instructions are put; None chooses on dev."""

    def unfit(self, task: Task) -> str | None:
        """Always makes sense."""
        return None

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """One request, or two with a thought before a fixed form."""
        prompt = Prompt.of(task)
        named = INSTRUCTIONS if self.instruction is None else (self.instruction,)
        ways = [_way(prompt, instruction) for instruction in named]
        return Plan(tuple(ways), rounds_ahead(ways, task.dev, prospect.seed))

    async def fit(self, task: Task, context: FitContext) -> FittedZeroShot:
        """Try the ways of putting the instructions, unless one was named."""
        prompt = Prompt.of(task)
        if self.instruction is not None:
            return FittedZeroShot(prompt, self.instruction)
        options = {instruction: FittedZeroShot(prompt, instruction).solve for instruction in INSTRUCTIONS}
        winner, tried = await best_on_dev(options, context, task.dev)
        return FittedZeroShot(prompt, winner, tried)


def _way(prompt: Prompt, instruction: Instruction) -> Way:
    return Way(instruction, lambda sample: planned(prompt, instruction, sample.input), ZeroShot(instruction))
