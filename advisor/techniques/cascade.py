"""A cascade: a cheap model answers when it is sure, a dearer one otherwise.

Chen, Zaharia and Zou 2023, "FrugalGPT" (arXiv:2305.05176), with the model's own certainty in place of a trained one.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from advisor.span import ONCE, Span
from advisor.techniques import inner
from advisor.techniques.base import FitContext, Fitted, Technique, read_state, write_state
from advisor.techniques.forecast import Ask, Plan, Prospect, Round, Way
from advisor.techniques.self_consistency import vote
from advisor.techniques.threshold import NEVER_SURE, Point, Row, pick_threshold, rows, shown, stands
from backends.aside import Change, asides
from backends.meter import Meter
from backends.types import ChatRequest
from evals.runner import Solve
from evals.task import Sample, Task
from evals.trial import Trial

SureBy = Literal["label_probability", "self_agreement"]

CHEAP, SURE, DEAR = "cheap", "sure", "dear"
"""Names of the steps: the cheap answer, how sure it is as a number in [0, 1], the dear answer if one was asked for."""

_AGREEING = 5
"""Answers drawn for self-agreement, so that it comes in fifths."""
_TEMPERATURE = 0.7
_APART = 100
"""Numbers that each drawn answer's requests may use for repetitions of their own."""
_DEV_SAMPLES = 50
_NEEDED = Span(0, 0.5, 1)
"""Share of the inputs that need a dear answer; before dev has told, any share is as likely."""


@dataclass(frozen=True, slots=True)
class FittedCascade:
    """A cascade with both parts fitted and its threshold chosen."""

    technique: ClassVar[str] = "cascade"
    cheap: Fitted
    dear: Fitted
    model: str | None
    """The dearer model; None when both parts ask the candidate's own."""
    sure_by: SureBy
    seed: int
    threshold: float
    picked: Row | None = None
    """What the threshold did on dev; None when it was given."""
    table: tuple[Row, ...] = ()
    note: str = ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Both parts, and how the threshold was chosen. The last row of the table is the dear part alone."""
        return {
            "first": self.cheap.technique,
            "then": self.dear.technique,
            "dear": self.model,
            "sure_by": self.sure_by,
            "threshold": self.threshold,
            "picked": asdict(self.picked) if self.picked else None,
            "table": [asdict(row) for row in self.table],
            "note": self.note,
            "cheap_parameters": dict(self.cheap.parameters),
            "dear_parameters": dict(self.dear.parameters),
        }

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model and, where one is named, a dearer one."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """The cheap answer where it is sure enough, else the dear one."""
        answer, sure = await self.ask_cheap(sample, models)
        return answer if stands(sure, self.threshold) else await self.ask_dear(sample, models)

    async def ask_cheap(self, sample: Sample, models: Meter) -> tuple[str, float | None]:
        """The cheap answer and how sure it is; None when the model cannot tell."""
        ask = self._by_probability if self.sure_by == "label_probability" else self._by_agreement
        with models.step(CHEAP) as step:
            step.output, sure = await ask(sample, models)
        with models.step(SURE) as noted:
            noted.output = "" if sure is None else repr(sure)
        return step.output, sure

    async def ask_dear(self, sample: Sample, models: Meter) -> str:
        """The dear answer."""
        with models.step(DEAR) as step:
            step.output = await inner.elsewhere(self.dear.solve, self.model)(sample, models)
        return step.output

    async def _by_probability(self, sample: Sample, models: Meter) -> tuple[str, float | None]:
        """The probability that the model gives to its last answer, among the labels."""
        with asides(models, [_with_probability]) as (part,):
            answer = await self.cheap.solve(sample, part)
        logprob = part.heard[-1].logprob if part.heard else None
        return answer, None if logprob is None else min(1.0, math.exp(logprob))

    async def _by_agreement(self, sample: Sample, models: Meter) -> tuple[str, float | None]:
        """The majority of several drawn answers, and its share."""
        with asides(models, [self._drawn(number) for number in range(_AGREEING)]) as parts:
            asked = (self.cheap.solve(sample, part) for part in parts)
            # All are waited for, also when one fails: what they cost is counted when they are done.
            found = await asyncio.gather(*asked, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        voted = vote([answer for answer in found if isinstance(answer, str)])
        return voted.answer, voted.share

    def _drawn(self, number: int) -> Change:
        def change(request: ChatRequest) -> ChatRequest:
            repeat = request.repeat + _APART * number
            return replace(request, temperature=_TEMPERATURE, seed=self.seed + number, repeat=repeat)

        return change

    def save(self, folder: Path) -> None:
        """Write both parts and the threshold."""
        for name, part in ((CHEAP, self.cheap), (DEAR, self.dear)):
            inner.save(part, folder / name)
        state = {
            "model": self.model,
            "sure_by": self.sure_by,
            "seed": self.seed,
            "threshold": self.threshold,
            "picked": asdict(self.picked) if self.picked else None,
            "table": [asdict(row) for row in self.table],
            "note": self.note,
        }
        write_state(folder, self.technique, state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what save wrote."""
        state = read_state(folder)
        del state["technique"]
        state["picked"] = Row(**state["picked"]) if state["picked"] else None
        state["table"] = tuple(Row(**row) for row in state["table"])
        return cls(cheap=inner.load(folder / CHEAP), dear=inner.load(folder / DEAR), **state)


@dataclass(frozen=True, slots=True)
class Cascade(Technique):
    """Ask the candidate's own model first, and `dear` where the answer is not sure."""

    name: ClassVar[str] = "cascade"
    summary: ClassVar[str] = "a cheap model answers when it is sure, a dearer one otherwise"
    tunes: ClassVar[bool] = False
    fitted: ClassVar[type[FittedCascade]] = FittedCascade

    dear: str | None = None
    """The dearer model; None asks the candidate's own again, which makes sense with another technique."""
    first: str = "zero_shot"
    """Technique of the cheap part."""
    then: str = "zero_shot"
    """Technique of the dear part."""
    sure_by: SureBy | None = None
    """How certainty is measured: the probability of the label given, or the agreement of five drawn answers, which
    multiplies the cheap part's cost by five. None takes the probability where the task has labels."""
    threshold: float | None = None
    """Certainty from which on the cheap answer stands; None chooses on dev."""

    def __post_init__(self) -> None:
        for name in (self.first, self.then):
            inner.make(name)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold:g}, but certainties lie between 0 and 1")

    @property
    def embeds(self) -> bool:
        """Whether one of the parts asks for embeddings."""
        return any(part.embeds for part in self._parts)

    @property
    def _parts(self) -> tuple[Technique, Technique]:
        return inner.make(self.first), inner.make(self.then)

    def unfit(self, task: Task) -> str | None:
        """Needs two parts that differ, both of use."""
        if self.dear is None and self.first == self.then:
            return "it needs a second, dearer model"
        if self.sure_by == "label_probability" and not task.labels:
            return "the task has no labels whose probability could be asked for"
        reasons = [(part.name, part.unfit(task)) for part in self._parts]
        return next((f"{name}: {reason}" for name, reason in reasons if reason), None)

    def suits(self, task: Task) -> str:
        """There is a second model, and easy inputs need no dear one."""
        return f"{self.dear or self.then} is needed only for what {self.first} is not sure of"

    def others(self, task: Task) -> tuple[str, ...]:
        """The dearer model, and those that the parts ask."""
        named = (self.dear,) if self.dear is not None else ()
        return tuple(dict.fromkeys([*named, *(name for part in self._parts for name in part.others(task))]))

    def forecast(self, task: Task, prospect: Prospect) -> Plan | None:
        """Both parts fitted and tried on dev; afterwards the cheap one always, the dear one nobody knows how often."""
        cheap, dear = (part.forecast(task, prospect) for part in self._parts)
        if cheap is None or dear is None:
            return None
        first = _part(cheap, CHEAP, None)
        second = _part(dear, DEAR, self.dear)
        asked = Span.exactly(1 if self._sure_by(task) == "label_probability" else _AGREEING)
        pairs = [
            (first.ways[number % len(first.ways)], second.ways[number % len(second.ways)])
            for number in range(max(len(first.ways), len(second.ways)))
        ]
        both = tuple(_both(*pair, asked, ONCE) for pair in pairs)
        ways = tuple(_both(*pair, asked, _NEEDED) for pair in pairs)
        count = min(len(task.dev), _DEV_SAMPLES) if self.threshold is None else 0
        drawn = random.Random(f"{prospect.seed}:cascade").sample(list(task.dev), count)
        rounds = (*first.rounds, *second.rounds, Round(both, tuple(drawn), 1))
        return Plan(ways, rounds, (*first.asks, *second.asks), (*first.corpora, *second.corpora))

    def _sure_by(self, task: Task) -> SureBy:
        return self.sure_by or ("label_probability" if task.labels else "self_agreement")

    async def fit(self, task: Task, context: FitContext) -> FittedCascade:
        """Fit both parts, then let both answer dev once and choose the threshold from these answers."""
        way = self._sure_by(task)
        made = FittedCascade(
            cheap=await inner.fit(self.first, task, context, CHEAP, None),
            dear=await inner.fit(self.then, task, context, DEAR, self.dear),
            model=self.dear,
            sure_by=way,
            seed=context.seed,
            threshold=NEVER_SURE if self.threshold is None else self.threshold,
        )
        drawn = random.Random(f"{context.seed}:cascade").sample(list(task.dev), min(len(task.dev), _DEV_SAMPLES))
        if self.threshold is None:
            return await _with_threshold(made, context, drawn)
        # One answer shows whether the model tells probabilities.
        return (await _tell_sure(made, context, drawn[:1]))[0] if way == "label_probability" else made


def _part(plan: Plan, role: str, on: str | None) -> Plan:
    """The plan of a part: on a model of its own, its ways named after its role."""

    def elsewhere(ask: Ask) -> Ask:
        return replace(ask, on=ask.on or on)

    def named(way: Way) -> Way:
        asks = way.asks
        return replace(way, name=f"{role}: {way.name}", asks=lambda sample: list(map(elsewhere, asks(sample))))

    rounds = tuple(replace(one, ways=tuple(map(named, one.ways))) for one in plan.rounds)
    return replace(plan, ways=tuple(map(named, plan.ways)), rounds=rounds, asks=tuple(map(elsewhere, plan.asks)))


def _both(cheap: Way, dear: Way, asked: Span, needed: Span) -> Way:
    """Both parts' requests: the cheap ones as often as certainty takes, the dear ones as often as they are needed."""

    def asks(sample: Sample) -> list[Ask]:
        parts = ((cheap.asks(sample), asked), (dear.asks(sample), needed))
        return [replace(ask, times=ask.times * times) for found, times in parts for ask in found]

    return Way(f"{cheap.name}, {dear.name}", asks, embeds=cheap.embeds or dear.embeds)


async def _with_threshold(made: FittedCascade, context: FitContext, dev: Sequence[Sample]) -> FittedCascade:
    context.note("both parts asked on dev", 0, 2)
    made, cheap = await _tell_sure(made, context, dev)
    context.note("both parts asked on dev", 1, 2)
    dear = await context.trials(DEAR, made.ask_dear, dev)
    found = rows(_points(cheap, dear))
    if not found:
        return replace(made, note="no dev sample was answered by both parts, so that every answer is dear")
    picked = pick_threshold(found)
    return replace(made, threshold=picked.threshold, picked=picked, table=shown(found, picked))


async def _tell_sure(
    made: FittedCascade, context: FitContext, dev: Sequence[Sample]
) -> tuple[FittedCascade, list[Trial]]:
    """Cheap answers with their certainties; by agreement where the model tells no probabilities."""
    trials = await context.trials(f"{CHEAP} by {made.sure_by}", _cheap_alone(made), dev)
    told = [_sure(trial) is not None for trial in trials if trial.error is None]
    if made.sure_by == "self_agreement" or any(told) or not told:
        return made, trials
    made = replace(made, sure_by="self_agreement", note="the model tells no probabilities: certainty is self-agreement")
    return made, await context.trials(f"{CHEAP} by {made.sure_by}", _cheap_alone(made), dev)


def _cheap_alone(made: FittedCascade) -> Solve:
    async def solve(sample: Sample, models: Meter) -> str:
        return (await made.ask_cheap(sample, models))[0]

    return solve


def _points(cheap: Sequence[Trial], dear: Sequence[Trial]) -> list[Point]:
    return [
        Point(_sure(one), one.score.value, other.score.value, one.usage.cost_usd, other.usage.cost_usd)
        for one, other in zip(cheap, dear, strict=True)
        if one.score is not None and other.score is not None
    ]


def _sure(trial: Trial) -> float | None:
    """How sure the cheap answer of a trial was."""
    noted = next((step.output for step in trial.steps if step.name == SURE), "")
    return float(noted) if noted else None


def _with_probability(request: ChatRequest) -> ChatRequest:
    return replace(request, logprobs=True) if request.choices else request
