"""Fine-tuning: teach a model the train answers, then ask it with a short instruction."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.checkpoints import best_checkpoint
from advisor.techniques.forecast import Ask, Plan, Prospect, Way
from advisor.techniques.prompt import Prompt
from backends.errors import InputError
from backends.meter import Meter
from backends.types import Message, TunedModel, TuneJob
from backends.wording import agreeing, counted
from evals.leakage import question_key
from evals.task import Sample, Split, Task

Instruction = Literal["short", "full"]
_PLACE = re.compile(r"\b(train|dev)\[(\d+)\]")
FEWEST_TRAIN = 10
"""Fewest samples to learn from: what providers ask for."""


@dataclass(frozen=True, slots=True)
class FittedFineTune:
    """A tuned model with the short prompt it was taught."""

    technique: ClassVar[str] = "fine_tune"
    prompt: Prompt
    model: TunedModel
    seen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By split: keys of the questions it was taught, or chosen by, all that it went on from included."""
    start: str = ""
    """Name of the tuned model that its training went on from."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The recipe, and what training gave."""
        return {
            "model": self.model.name,
            "instructions": self.prompt.instructions,
            "recipe": dict(self.model.recipe),
            "trained_tokens": self.model.trained_tokens,
            **({"notes": list(self.model.notes)} if self.model.notes else {}),
            **({"start": self.start} if self.start else {}),
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
        seen = {split: list(keys) for split, keys in self.seen.items()}
        state = {"prompt": self.prompt.as_state(), "model": model, "seen": seen, "start": self.start}
        write_state(folder, self.technique, state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the prompt and where the tuned model lies."""
        state = read_state(folder)
        model = state["model"]
        pairs = {name: tuple((step, loss) for step, loss in model[name]) for name in ("losses", "dev_losses")}
        lists = {name: tuple(model.get(name, ())) for name in ("checkpoints", "notes")}
        tuned = TunedModel(**model | pairs | lists | {"folder": Path(model["folder"])})
        # Models that were tuned before these were kept have neither.
        seen = {split: tuple(keys) for split, keys in state.get("seen", {}).items()}
        return cls(Prompt.from_state(state["prompt"]), tuned, seen, state.get("start", ""))


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
    taught: bool = False
    """Whether it learns from a teacher's answers to unlabelled inputs, as `fine_tune.teacher` of a scenario says."""

    def unfit(self, task: Task) -> str | None:
        """Needs something to learn from; what a teacher will leave is known only when it has answered."""
        if self.taught or len(task.train) >= FEWEST_TRAIN:
            return None
        return f"{counted(len(task.train), 'train sample')} {agreeing(len(task.train), 'is', 'are')} too few to tune on"

    def suits(self, task: Task) -> str:
        """There is something to learn from."""
        if self.taught:
            return "a teacher answers unlabelled inputs, when nothing cheaper meets the target"
        return f"{len(task.train)} train samples can be learnt from, when nothing cheaper meets the target"

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """One short request; what a teacher adds to the training is not among it."""
        prompt = self._prompt(task)
        way = Way("tuned", lambda sample: [Ask(prompt.request(sample.input))])
        return Plan((way,), training=_conversations(prompt, task.train))

    def _prompt(self, task: Task) -> Prompt:
        prompt = Prompt.of(task)
        return prompt.shortened(task.name.replace("_", " ")) if self.instruction == "short" else prompt

    async def fit(self, task: Task, context: FitContext) -> FittedFineTune:
        """Train; the dev samples choose the epoch that is kept."""
        former = None if context.start is None else FittedFineTune.load(context.start)
        with _named_by_sample(task):
            model = await context.tune(self.job(task, context.seed, context.adapters, former))
        start = "" if former is None else former.model.name
        fitted = FittedFineTune(self._prompt(task), model, _seen(task, former), start)
        kept = await best_checkpoint(fitted.model, fitted.solve, task.dev, context)
        return replace(fitted, model=kept)

    def job(self, task: Task, seed: int, adapters: Path, former: FittedFineTune | None = None) -> TuneJob:
        """What the tuner gets; `former` holds the tuned model that the training goes on from."""
        prompt = self._prompt(task)
        train, dev = (_conversations(prompt, samples) for samples in (task.train, task.dev))
        pairs = self.recipe.get("method") == "dpo"
        rejected, dev_rejected = (_rejected(samples) if pairs else () for samples in (task.train, task.dev))
        named = [self.base, dict(self.recipe), seed, *([_plain(c) for c in split] for split in (train, dev))]
        named += [rejected, dev_rejected] if pairs else []
        content = json.dumps(named if former is None else [*named, former.model.name])
        folder = adapters / hashlib.sha256(content.encode()).hexdigest()[:16]
        start = None if former is None else former.model.folder
        return TuneJob(self.base, train, dev, seed, folder, self.recipe, start, rejected, dev_rejected)


@contextmanager
def _named_by_sample(task: Task) -> Iterator[None]:
    """Inside, what is wrong with a conversation is told by its sample's id: a tuner knows but its number."""

    def named(place: re.Match[str]) -> str:
        return f"{place[1]} sample {task.split(cast(Split, place[1]))[int(place[2])].id!r}"

    try:
        yield
    except InputError as error:
        raise InputError(
            replace(problem, where=_PLACE.sub(named, problem.where), what=_PLACE.sub(named, problem.what))
            for problem in error.problems
        ) from error


def _seen(task: Task, former: FittedFineTune | None) -> dict[str, tuple[str, ...]]:
    """Keys of the questions that training and the choice of an epoch rest on."""
    own = {"train": task.train, "dev": task.dev}
    before = {} if former is None else former.seen
    return {
        split: tuple(sorted({question_key(sample) for sample in samples} | set(before.get(split, ()))))
        for split, samples in own.items()
    }


def _conversations(prompt: Prompt, samples: tuple[Sample, ...]) -> tuple[tuple[Message, ...], ...]:
    return tuple((*prompt.messages(sample.input), Message("assistant", sample.target)) for sample in samples)


def _rejected(samples: tuple[Sample, ...]) -> tuple[str, ...]:
    """Wrong answers that the samples bring along; empty for one that brings none."""
    return tuple(str(sample.metadata.get("rejected") or "") for sample in samples)


def _plain(conversation: tuple[Message, ...]) -> list[list[str]]:
    return [[message.role, message.content] for message in conversation]
