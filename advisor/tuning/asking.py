"""Asks a teacher about unlabelled inputs, and keeps the answers that it gives again when it is asked again.

What a model answers consistently is right far more often than what it does not (Wang et al. 2022, arXiv:2203.11171;
Huang et al. 2022, arXiv:2210.11610). Asking again works with every technique and endpoint; the probability of an answer
is told by few, and of several requests it covers the last one only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from advisor.candidates import Candidate
from advisor.events import Choosing, Evaluated
from advisor.fitting import FitCost
from advisor.scenario.model import Teacher
from advisor.session import Prepared, Session
from advisor.techniques.choose import shuffled
from advisor.tuning.usable import Usable
from backends.errors import RequestError
from backends.types import ChatRequest, Usage
from evals.runner import Runner, Work
from evals.task import Sample
from evals.trial import FITTING, Trial

Fate = Literal["kept", "failed", "unusable", "disagreed"]

_TEMPERATURE = 0.7
"""At which answers are drawn; self-consistency's."""
_WAVE = 64
"""Inputs asked about side by side, between two looks at the budget."""
_APART = 1000
"""Seeds that one drawn answer's requests may use for draws of their own."""


@dataclass
class Lesson:
    """One input and what its teacher said."""

    sample: Sample
    """Its target is the first answer, empty until there is one that can be taught."""
    rules: Teacher
    trials: list[Trial] = field(default_factory=list)
    """The first answer as the candidate gives it, then drawn ones, scored against it."""

    @property
    def agreement(self) -> float:
        """Mean score of the answers asked for against the first, which agrees with itself; a failed one is none."""
        return self._agreed / len(self.trials)

    @property
    def again(self) -> float | None:
        """Score of the second answer against the first; None where none was asked for."""
        return None if len(self.trials) < 2 else _value(self.trials[1])

    @property
    def fate(self) -> Fate | None:
        """What becomes of it; None as long as further answers decide."""
        first = self.trials[0]
        if first.error is not None:
            return "failed"
        if not self.sample.target:
            return "unusable"
        left = self.rules.answers - len(self.trials)
        if self._suffices(self._agreed):
            return "kept"
        return None if self._suffices(self._agreed + left) else "disagreed"

    @property
    def cost(self) -> FitCost:
        """What its answers and their scoring took."""
        return sum((FitCost(t.usage + t.scoring, t.seconds, t.cached_requests) for t in self.trials), nothing())

    @property
    def _agreed(self) -> float:
        return 1.0 + sum(map(_value, self.trials[1:]))

    def _suffices(self, agreed: float) -> bool:
        # Two decimals: who writes 0.67 means two of three.
        return round(agreed / self.rules.answers, 2) >= self.rules.agreement


def nothing() -> FitCost:
    """No cost at all."""
    return FitCost(Usage(), 0.0)


def _value(trial: Trial) -> float:
    return 0.0 if trial.score is None else trial.score.value


async def ask(
    session: Session, student: Candidate, teacher: Prepared, rules: Teacher
) -> tuple[list[Lesson], Literal["usd", "samples"] | None]:
    """Lessons in a seeded order of the inputs, and which cap ended the asking, if one did.

    Answers are trials of fitting the student: what the store holds is not asked for again. Raises RequestError when
    there is a cap in dollars and the teacher's price is not known.
    """
    what = f"inputs answered by {teacher.candidate.id}"
    order = shuffled(rules.inputs.samples, session.seed, "teacher")[: rules.samples]
    usable = Usable(session.scenario.task, session.scenario.scorer)
    runner = Runner(session.store, session.run_id, usable, lambda trial: session.observe(Evaluated(trial)))
    helpers = session.helpers(teacher.candidate)
    work = Work(student.id, teacher.fitted.solve, teacher.chat, "train", f"{FITTING}teach", helpers=helpers)
    lessons: list[Lesson] = []
    purse = _Purse(rules)
    while len(lessons) < len(order):
        room = purse.room()
        if room < 1:
            return lessons, "usd"
        session.check_time()
        session.observe(Choosing(student.id, what, len(lessons), len(order)))
        wave = [Lesson(sample, rules) for sample in order[len(lessons) : len(lessons) + room]]
        await _hear_first(runner, work, usable, wave)
        await _hear_again(session, work, wave)
        purse.pay(wave)
        lessons += wave
    session.observe(Choosing(student.id, what, len(lessons), len(order)))
    return lessons, "samples" if len(order) < len(rules.inputs.samples) else None


async def _hear_first(runner: Runner, work: Work, usable: Usable, wave: Sequence[Lesson]) -> None:
    """The answers that the teacher would give in production."""
    for lesson, trial in zip(wave, await runner.run(work, [lesson.sample for lesson in wave]), strict=True):
        lesson.trials.append(trial)
        if _value(trial) >= 1:
            lesson.sample = replace(lesson.sample, target=usable.target(trial.output or ""))


async def _hear_again(session: Session, work: Work, wave: Sequence[Lesson]) -> None:
    """Drawn answers, scored as if the first were right, as long as they can change what becomes of a lesson."""
    for number in range(1, wave[0].rules.answers):
        waiting = [lesson for lesson in wave if lesson.fate is None]
        drawn = replace(
            work,
            variant=f"{work.variant} again {number}",
            repeat=number,
            rewrite=_drawn(number, session.seed),
        )
        trials = await session.runner.run(drawn, [lesson.sample for lesson in waiting])
        for lesson, trial in zip(waiting, trials, strict=True):
            lesson.trials.append(trial)


def _drawn(number: int, seed: int) -> Callable[[ChatRequest], ChatRequest]:
    """Makes a request one for a drawn answer; those of a technique that draws already stay apart from each other."""

    def change(request: ChatRequest) -> ChatRequest:
        own = request.seed if request.temperature > 0 else seed
        return replace(request, temperature=max(request.temperature, _TEMPERATURE), seed=own + _APART * number)

    return change


@dataclass
class _Purse:
    """What the cap in dollars leaves room for."""

    rules: Teacher
    spent: float = 0.0
    dearest: float | None = None
    """Dollars of the dearest answer so far; None before the first."""

    def room(self) -> int:
        """How many more inputs may be asked about side by side, if no answer takes more than the dearest so far."""
        if self.rules.usd is None:
            return _WAVE
        if self.dearest is None:
            return 1 if self.rules.usd > 0 else 0
        most = self.dearest * self.rules.answers
        return min(_WAVE, int((self.rules.usd - self.spent) / most)) if most > 0 else _WAVE

    def pay(self, wave: Sequence[Lesson]) -> None:
        """Book lessons. Raises RequestError when there is a cap and the price of one is not known."""
        for lesson in wave if self.rules.usd is not None else ():
            usd = lesson.cost.usage.cost_usd
            if usd is None:
                raise RequestError(
                    "what its teacher's answers cost is not known, so fine_tune.teacher.usd cannot be kept"
                )
            self.spent += usd
            self.dearest = max(self.dearest or 0.0, usd / len(lesson.trials))
