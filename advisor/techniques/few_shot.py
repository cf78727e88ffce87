"""Few-shot: the same worked examples before every input (Brown et al. 2020, arXiv:2005.14165).

Which order the examples stand in can matter as much as which they are (Lu et al. 2021, arXiv:2104.08786), so number
and order are chosen on dev.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows, rounds_ahead
from advisor.techniques.forecast import Ask, Plan, Prospect, Way
from advisor.techniques.prompt import Demonstration, Prompt, fitting_sizes
from backends.meter import Meter
from backends.wording import counted
from evals.task import Sample, Task

Order = Literal["drawn", "reversed"]

_SIZES = (4, 8, 16)
"""Numbers of examples that are tried; what 16 do not teach, more seldom do, and every request pays for them."""
_MOST_LABELS = 24
"""Up to so many labels, one example of each is shown at least."""


@dataclass(frozen=True, slots=True)
class FittedFewShot:
    """Few-shot with its examples chosen."""

    technique: ClassVar[str] = "few_shot"
    prompt: Prompt
    demonstrations: tuple[Demonstration, ...]
    order: Order = "drawn"
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How many examples are shown, in which order, and what was tried on dev."""
        return {"k": len(self.demonstrations), "order": self.order, "tried": as_rows(self.tried)}

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
        chosen = {"order": self.order, "tried": as_rows(self.tried)}
        write_state(folder, self.technique, {"prompt": self.prompt.as_state(), "demonstrations": shown, **chosen})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read prompt and examples."""
        state = read_state(folder)
        shown = tuple(Demonstration(**demonstration) for demonstration in state["demonstrations"])
        return cls(Prompt.from_state(state["prompt"]), shown, state["order"], from_rows(state["tried"]))


@dataclass(frozen=True, slots=True)
class FewShot(Technique):
    """Show `k` fixed examples, spread evenly over the answers that occur in train."""

    name: ClassVar[str] = "few_shot"
    summary: ClassVar[str] = "the same worked examples before every input"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedFewShot]] = FittedFewShot

    k: int | None = None
    """Number of examples; None chooses 4, 8 or 16 on dev, with one per label where there are not too many labels."""
    order: Order | None = None
    """As drawn (taking turns between the answers) or reversed; None chooses on dev, or takes `drawn` with a given k."""

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise ValueError(f"k is {self.k}, but at least one example must be shown")

    def unfit(self, task: Task) -> str | None:
        """Needs an example to show."""
        return None if task.train else "there are no train samples to show"

    def suits(self, task: Task) -> str:
        """Examples are at hand."""
        return f"{counted(len(task.train), 'train sample')} can be shown"

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """One request, the examples first."""
        prompt = Prompt.of(task)
        ways = [_way(prompt, task, k, order, prospect.seed) for k, order in self._choices(task, prompt)]
        return Plan(tuple(ways), rounds_ahead(ways, task.dev, prospect.seed))

    async def fit(self, task: Task, context: FitContext) -> FittedFewShot:
        """Draw the examples, stratified by answer; choose on dev how many are shown and in which order."""
        prompt = Prompt.of(task)
        options = {
            f"k={k} {order}": _fitted(prompt, task.train, k, order, context.seed)
            for k, order in self._choices(task, prompt)
        }
        solves = {name: option.solve for name, option in options.items()}
        winner, tried = await best_on_dev(solves, context, task.dev)
        return replace(options[winner], tried=tried)

    def _choices(self, task: Task, prompt: Prompt) -> list[tuple[int, Order]]:
        """At most four: every size in one order, and one size in the other order."""
        if self.k is not None:
            return [(self.k, self.order or "drawn")]
        sizes = fitting_sizes(_sizes(task), prompt, task.train)
        choices: list[tuple[int, Order]] = [(k, self.order or "drawn") for k in sizes]
        if self.order is None and sizes[-1] > 1:
            choices.append((sizes[len(sizes) // 2], "reversed"))
        return choices


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


def _sizes(task: Task) -> list[int]:
    """Numbers of examples worth trying, smallest first."""
    fewest = len(task.labels) if len(task.labels) <= _MOST_LABELS else 1
    return sorted({min(max(size, fewest), len(task.train)) for size in _SIZES})


def _fitted(prompt: Prompt, train: Sequence[Sample], k: int, order: Order, seed: int) -> FittedFewShot:
    shown = [Demonstration.of(sample) for sample in stratified(train, k, seed)]
    return FittedFewShot(prompt, tuple(shown if order == "drawn" else reversed(shown)), order)


def _way(prompt: Prompt, task: Task, k: int, order: Order, seed: int) -> Way:
    shown = _fitted(prompt, task.train, k, order, seed).demonstrations
    return Way(f"k={k} {order}", lambda sample: [Ask(prompt.request(sample.input, shown))], FewShot(k, order))
