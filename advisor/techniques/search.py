"""How the calls of a search for better instructions are shared out, kept to and foreseen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from advisor.span import Span
from advisor.techniques.forecast import Ask
from advisor.techniques.prompt import Prompt
from backends.types import ChatRequest, Message, add_known
from evals.task import Sample

MINIBATCH = 4
GROWN = Span(0, 90, 400)
"""Tokens by which instructions grow, assumed."""
_REFLECTION, _TEMPLATE = Span(60, 260, 1200), Span(300, 420, 600)
"""Tokens, assumed: of a reflection with its proposal, and of what is around the samples it is shown."""
_TYPICAL = 12
"""Train samples whose prompts stand for all that are answered in a search."""
_TEACHER_TOKENS, _OWN_TOKENS = 4096, 400
"""Longest reflections: a teacher may think unseen before it writes; a small model rambles to the end, so it gets 300
words and the length of the seed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the calls are shared out."""

    minibatch: int
    """Train samples that a proposal is first tried on."""
    dev: int
    """Dev samples that decide which prompt is best."""
    confirm: int
    """Further dev samples on which the best must hold against the seed at the end."""

    @classmethod
    def of(cls, max_calls: int, n_train: int, n_dev: int) -> Self:
        """The seed takes a seventh of the calls, the end a fifth at most; the rounds have what is left."""
        dev = min(n_dev, max(4, max_calls // 7))
        return cls(min(n_train, MINIBATCH), dev, min(n_dev - dev, max_calls // 10))

    @property
    def round(self) -> int:
        """Calls of a round whose proposal is good enough for dev: parent, reflection, child, dev."""
        return 2 * self.minibatch + 1 + self.dev

    @property
    def end(self) -> int:
        """Calls to confirm the best prompt against the seed."""
        return 2 * self.confirm


@dataclass(slots=True)
class Allowance:
    """Calls and dollars of one search, never exceeded: the worst case must fit before anything is asked."""

    max_calls: int
    max_usd: float | None
    calls: int = 0
    usd: float | None = 0.0

    def admits(self, calls: int, worst_usd: float | None, reserve: int = 0) -> bool:
        """Whether so many calls fit, with as many kept back as `reserve`; an unknown price fits no dollar limit."""
        if self.calls + calls + reserve > self.max_calls:
            return False
        if self.max_usd is None:
            return True
        worst = add_known(self.usd, worst_usd)
        return worst is not None and worst <= self.max_usd

    def spend(self, calls: int, usd: float | None) -> None:
        """Book what was asked."""
        self.calls += calls
        self.usd = add_known(self.usd, usd)


def reflection_tokens(instructions: str, teacher: str | None) -> int:
    """Longest answer of a reflection on these instructions."""
    return _TEACHER_TOKENS if teacher else _OWN_TOKENS + len(instructions) // 3


def rounds_asked(
    plan: Plan, max_calls: int, prompt: Prompt, train: Sequence[Sample], teacher: str | None
) -> Iterator[Ask]:
    """Answers and reflections of all rounds together; every second proposal is taken to be tried on dev."""
    left = max(0, max_calls - plan.dev)
    rounds = Span(0, max(0, left - plan.end) / (plan.round - plan.dev / 2), left / (2 * plan.minibatch + 1))
    answers = rounds * Span(0, 2 * plan.minibatch + plan.dev / 2, 2 * plan.minibatch) + Span(0, plan.end / 2, 0)
    typical = train[:_TYPICAL]
    for sample in typical:
        yield Ask(prompt.request(sample.input), answers * (1 / len(typical)), more=GROWN)
    read = "\n".join([prompt.instructions, *(f"{one.input}\n{one.target}" for one in train[: plan.minibatch])])
    request = ChatRequest((Message("user", read),), max_tokens=reflection_tokens(prompt.instructions, teacher))
    yield Ask(request, rounds, target=False, thought=_REFLECTION, more=_TEMPLATE, on=teacher)
