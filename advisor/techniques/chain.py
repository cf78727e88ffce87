"""Prompt chaining: several prompts in a row, each of which may use what the ones before gave."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from advisor.span import NONE, ONCE, Span
from advisor.techniques import default_chains
from advisor.techniques.base import FitContext, Given, GivenKind, Technique, read_state, write_state
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows, rounds_ahead
from advisor.techniques.default_chains import Part, Plan
from advisor.techniques.forecast import Ask, Prospect, Way
from advisor.techniques.forecast import Plan as Forecast
from advisor.techniques.prompt import Prompt
from advisor.techniques.template import fields, filled
from backends.meter import Meter
from backends.types import ChatRequest, Message
from evals.task import ChainStep, Sample, Task

LookUp = Callable[[str], Awaitable[str]]
"""What there is to read about a query; empty when there is nothing."""

_MOST_TOKENS = 200
"""Of the output of a step that says nothing else: a paragraph. Small models may not stop by themselves."""
_DEV_SAMPLES = 24
"""On which default chains are compared; each asks several times for each of them."""


async def nothing(query: str) -> str:
    """Looks nothing up."""
    return ""


@dataclass(frozen=True, slots=True)
class Links:
    """A chain ready to be followed.

    The last part answers the task: it alone is given the task's instructions and, unless it declares a constraint of
    its own, the task's.
    """

    plan: Plan
    parts: tuple[Part, ...]
    prompt: Prompt
    """The task's own."""

    @classmethod
    def of(cls, plan: Plan, task: Task) -> Self:
        """The chain of a plan for a task."""
        return cls(plan, default_chains.parts(plan, task), Prompt.of(task))

    @property
    def names(self) -> list[str]:
        """Names of the steps."""
        return [part.step.name for part in self.parts]

    async def follow(
        self, text: str, models: Meter, look_up: LookUp = nothing, known: Mapping[str, str] | None = None
    ) -> str:
        """Ask step after step; `known` outputs are used as they are, and what lies before them is not asked.

        What is looked up stands before the input, in the parts that are `informed`.
        """
        values = {"input": text, **(known or {})}
        start = max((self.names.index(name) + 1 for name in known or {}), default=0)
        output = ""
        for part in self.parts[start:]:
            if part.each:
                output = await self._each(part, default_chains.questions(output, text), values, models, look_up)
            else:
                found = await look_up(text) if part.informed else ""
                output = await self._ask(part.step, values | {"input": _after(found, text)}, models)
            values[part.step.name] = output.strip()
        return output

    def planned(self, text: str, found: str = "") -> list[Ask]:
        """What `follow` asks, where `found` is looked up each time."""
        asks: list[Ask] = []
        outputs: dict[str, Span] = {"question": default_chains.QUESTION}
        for part in self.parts:
            step = part.step
            wrote = default_chains.written(step, _MOST_TOKENS)
            times = default_chains.ASKED if part.each else ONCE
            # Each question is told the answers to those before it: half of them on average.
            outputs[step.name] = (wrote + default_chains.QUESTION) * times * 0.5 if part.each else wrote
            shown = dict.fromkeys(fields(step.prompt), "") | {"input": _after(found if part.informed else "", text)}
            more = Span.total(outputs[name] for name in fields(step.prompt) if name in outputs)
            request = self._request(step, filled(step.prompt, shown))
            answers = part is self.parts[-1] and not step.choices and step.json_schema is None
            asks.append(Ask(request, times, answers, NONE if answers else wrote, more, step.model))
            outputs[step.name] = outputs[step.name] * (2.0 if part.each else 1.0)
        return asks

    @property
    def queries(self) -> Span:
        """Texts beside the input that are looked up for it, in a chain that retrieves."""
        return Span.total(default_chains.ASKED for part in self.parts if part.each and part.informed)

    def known(self, steps: Sequence[str]) -> dict[str, str]:
        """Which outputs right intermediate results stand for: never the last, which is the answer.

        In a declared chain they are the outputs of the first steps, in their order. In the default ones the results
        on the way to an answer are what `solve` notes and what `draft` thinks aloud.
        """
        if self.plan == "declared":
            return dict(zip(self.names[:-1], steps, strict=False))
        return {"solve" if self.plan == "decompose" else "draft": "\n".join(steps)} if steps else {}

    async def _each(
        self, part: Part, questions: Sequence[str], values: Mapping[str, str], models: Meter, look_up: LookUp
    ) -> str:
        """Ask for every question in turn; the steps are numbered, the output is all questions with their answers."""
        notes: list[str] = []
        answer = ""
        for number, question in enumerate(questions, start=1):
            # A question often leaves out the name that the answer before it gave.
            found = await look_up(f"{question} {answer}".strip()) if part.informed else ""
            shown = {"input": _after(found, values["input"]), part.step.name: "\n".join(notes), "question": question}
            answer = (await self._ask(part.step, {**values, **shown}, models, f"{part.step.name} {number}")).strip()
            notes.append(f"{question} {answer}")
        return "\n".join(notes)

    async def _ask(self, step: ChainStep, values: Mapping[str, str], models: Meter, name: str | None = None) -> str:
        request = self._request(step, filled(step.prompt, values))
        with models.step(name or step.name) as begun:
            begun.output = (await models.complete(request, on=step.model)).text
        return begun.output

    def _request(self, step: ChainStep, text: str) -> ChatRequest:
        """A cut output is used as it is: a next step can do something with half a paragraph."""
        last = step is self.parts[-1].step
        system = (Message("system", self.prompt.instructions),) if last else ()
        messages = (*system, Message("user", text))
        if last and not step.choices and step.json_schema is None:
            most = step.max_tokens or self.prompt.max_tokens
            return ChatRequest(messages, most, choices=self.prompt.choices, json_schema=self.prompt.json_schema)
        most = step.max_tokens or _MOST_TOKENS
        return ChatRequest(messages, most, choices=step.choices, json_schema=step.json_schema)

    def as_state(self) -> dict[str, Any]:
        """JSON-ready form; `from_state` reads it."""
        return {"plan": self.plan, "parts": default_chains.as_state(self.parts), "prompt": self.prompt.as_state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what as_state gave."""
        parts = tuple(Part.from_state(part) for part in state["parts"])
        return cls(state["plan"], parts, Prompt.from_state(state["prompt"]))


@dataclass(frozen=True, slots=True)
class FittedChain:
    """A chain, chosen."""

    technique: ClassVar[str] = "chain"
    accepts: ClassVar[frozenset[GivenKind]] = frozenset({"steps"})
    links: Links
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The chain, and what was tried on dev to choose it."""
        return {"plan": self.links.plan, "steps": self.links.names, "tried": as_rows(self.tried)}

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One request a step."""
        return await self.links.follow(sample.input, models)

    async def solve_given(self, sample: Sample, models: Meter, given: Given) -> str:
        """The same with right outputs of the first steps."""
        return await self.links.follow(sample.input, models, known=self.links.known(given.steps or ()))

    def save(self, folder: Path) -> None:
        """Write the chain."""
        write_state(folder, self.technique, {"links": self.links.as_state(), "tried": as_rows(self.tried)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the chain."""
        state = read_state(folder)
        return cls(Links.from_state(state["links"]), from_rows(state["tried"]))


@dataclass(frozen=True, slots=True)
class Chain(Technique):
    """Follow the scenario's chain, or else the better of two default ones."""

    name: ClassVar[str] = "chain"
    summary: ClassVar[str] = "several prompts in a row, each using what the ones before gave"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedChain]] = FittedChain

    plan: Literal["decompose", "revise"] | None = None
    """A default chain; None takes the scenario's own or, where there is none, chooses on dev."""

    def unfit(self, task: Task) -> str | None:
        """Always makes sense."""
        return None

    def skip(self, task: Task) -> str | None:
        """Steps to a label seldom pay."""
        return no_chain_needed(task)

    def suits(self, task: Task) -> str:
        """Where the steps come from."""
        return why_chain(task)

    def others(self, task: Task) -> tuple[str, ...]:
        """The models that steps name."""
        return step_models(self.plan, task)

    def forecast(self, task: Task, prospect: Prospect) -> Forecast:
        """One request a step; those that answer questions as often as there are any."""
        ways = [_way(plan, task) for plan in plans(self.plan, task)]
        drawn = random.Random(f"{prospect.seed}:chain").sample(list(task.dev), min(len(task.dev), _DEV_SAMPLES))
        return Forecast(tuple(ways), rounds_ahead(ways, drawn, prospect.seed))

    async def fit(self, task: Task, context: FitContext) -> FittedChain:
        """Choose between the default chains on dev, where there is a choice."""
        options: dict[str, Links] = {plan: Links.of(plan, task) for plan in plans(self.plan, task)}
        solvers = {plan: FittedChain(links).solve for plan, links in options.items()}
        drawn = random.Random(f"{context.seed}:chain").sample(list(task.dev), min(len(task.dev), _DEV_SAMPLES))
        best, tried = await best_on_dev(solvers, context, drawn)
        return FittedChain(options[best], tried)


def _way(plan: Plan, task: Task) -> Way:
    links = Links.of(plan, task)
    return Way(plan, lambda sample: links.planned(sample.input), None if plan == "declared" else Chain(plan))


def _after(found: str, text: str) -> str:
    return f"{found}\n\n{text}" if found else text


def plans(wanted: Literal["decompose", "revise"] | None, task: Task) -> tuple[Plan, ...]:
    """The chains to choose from."""
    if wanted is not None:
        return (wanted,)
    return ("declared",) if task.chain else ("decompose", "revise")


def step_models(wanted: Literal["decompose", "revise"] | None, task: Task) -> tuple[str, ...]:
    """Models that the steps of the scenario's chain name, each once; none when a default chain is followed."""
    steps = task.chain if wanted is None else ()
    return tuple(dict.fromkeys(step.model for step in steps if step.model is not None))


def no_chain_needed(task: Task) -> str | None:
    """Why `auto` tries no chain, or None.

    Intermediate steps help with mathematics and symbols and hardly elsewhere (Sprague et al. 2024, "To CoT or not to
    CoT?", arXiv:2409.12183, over 100 papers).
    """
    if task.labels and not task.chain:
        return "answers are labels and the scenario declares no chain: steps help to calculate, hardly to sort"
    return None


def why_chain(task: Task) -> str:
    """Why `auto` tries a chain."""
    if task.chain:
        return f"the scenario declares a chain of {len(task.chain)} steps"
    return "answers are open, so that steps on the way to them may help"
