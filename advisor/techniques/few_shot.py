"""Few-shot: the same worked examples before every input (Brown et al. 2020, arXiv:2005.14165)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.prompt import Demonstration, Prompt
from backends.meter import Meter
from evals.task import Sample, Task

_FEWEST, _MOST = 8, 16


@dataclass(frozen=True, slots=True)
class FittedFewShot:
    """Few-shot with its examples chosen."""

    technique: ClassVar[str] = "few_shot"
    prompt: Prompt
    demonstrations: tuple[Demonstration, ...]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How many examples are shown."""
        return {"k": len(self.demonstrations)}

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One request, the examples first."""
        return (await models.complete(self.prompt.request(sample.input, self.demonstrations))).text

    def save(self, folder: Path) -> None:
        """Write prompt and examples."""
        shown = [asdict(demonstration) for demonstration in self.demonstrations]
        write_state(folder, self.technique, {"prompt": self.prompt.as_state(), "demonstrations": shown})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read prompt and examples."""
        state = read_state(folder)
        return cls(
            Prompt.from_state(state["prompt"]), tuple(Demonstration(**shown) for shown in state["demonstrations"])
        )


@dataclass(frozen=True, slots=True)
class FewShot(Technique):
    """Show `k` fixed examples, spread evenly over the answers that occur in train."""

    name: ClassVar[str] = "few_shot"
    summary: ClassVar[str] = "the same worked examples before every input"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedFewShot]] = FittedFewShot

    k: int | None = None
    """Number of examples; None takes one per label, at least 8 and at most 16."""

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise ValueError(f"k is {self.k}, but at least one example must be shown")

    def unfit(self, task: Task) -> str | None:
        """Needs an example to show."""
        return None if task.train else "there are no train samples to show"

    def suits(self, task: Task) -> str:
        """Examples are at hand."""
        return f"{len(task.train)} train samples can be shown"

    async def fit(self, task: Task, context: FitContext) -> FittedFewShot:
        """Choose the examples: stratified by answer, at random within one answer."""
        k = self.k or min(_MOST, max(_FEWEST, len(task.labels)))
        chosen = stratified(task.train, k, context.seed)
        return FittedFewShot(Prompt.of(task), tuple(Demonstration.of(sample) for sample in chosen))


def stratified(samples: Sequence[Sample], k: int, seed: int) -> list[Sample]:
    """At most `k` samples, taking turns between the answers; order is random but fixed by the seed."""
    rng = random.Random(seed)
    by_target: dict[str, list[Sample]] = {}
    for sample in samples:
        by_target.setdefault(sample.target, []).append(sample)
    piles = [by_target[target] for target in sorted(by_target)]
    for pile in piles:
        rng.shuffle(pile)
    rng.shuffle(piles)
    chosen: list[Sample] = []
    while len(chosen) < min(k, len(samples)):
        for pile in piles:
            if pile and len(chosen) < k:
                chosen.append(pile.pop())
    return chosen
