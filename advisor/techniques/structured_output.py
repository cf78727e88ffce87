"""Structured output: the model fills in a JSON form, a short reasoning first where that helps, and the answer last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from advisor.span import Span
from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.choose import Tried, as_rows, best_on_dev, from_rows, rounds_ahead
from advisor.techniques.forecast import Ask, Plan, Prospect, Way
from advisor.techniques.prompt import Prompt
from advisor.tools.calls import first_json
from advisor.tools.schema import object_of, placed
from backends.meter import Meter
from backends.types import ChatRequest, Message
from evals.task import Sample, Task

_FORM_TOKENS = 32
"""Braces, quotation marks and names of the form, about."""
_FORM, _SENTENCE = Span(4, 6, 12), Span(14, 28, 66)
"""Tokens of the form around the answer, and of a sentence of reasoning in it, assumed."""
_REASONING = '"reasoning": ONE SHORT SENTENCE THAT LEADS TO THE ANSWER, '


@dataclass(frozen=True, slots=True)
class FittedStructuredOutput:
    """The form with its fields settled."""

    technique: ClassVar[str] = "structured_output"
    prompt: Prompt
    reasoning_characters: int
    """Longest reasoning; 0 for a form without any."""
    tried: tuple[Tried, ...] = ()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Whether there is room for reasoning, and what was tried on dev."""
        return {
            "reasoning": self.reasoning_characters > 0,
            "reasoning_characters": self.reasoning_characters,
            "tried": as_rows(self.tried),
        }

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """One request; the answer is taken out of the form. A form that is broken is the answer as it is."""
        text = (await models.complete(self.request(sample.input))).text
        form = first_json(text)
        if not isinstance(form, dict) or "answer" not in form:
            return text
        answer = form["answer"]
        # As targets are written: labels as they are, everything else as canonical JSON.
        return str(answer) if self.prompt.choices else json.dumps(answer, ensure_ascii=False, sort_keys=True)

    def request(self, text: str) -> ChatRequest:
        """The form for one input."""
        reasoning = _REASONING if self.reasoning_characters else ""
        system = f'{self.prompt.instructions}\n\nWrite it as JSON: {{{reasoning}"answer": ANSWER}}.{self._answers()}'
        # Words that are not English take up to a token a character.
        room = self.reasoning_characters + self.prompt.max_tokens + _FORM_TOKENS
        return ChatRequest(
            (Message("system", system), Message("user", text)), max_tokens=room, json_schema=self._schema()
        )

    def _answers(self) -> str:
        """What the answer may be, for endpoints whose models do not see the schema."""
        if self.prompt.choices:
            return f" ANSWER is one of: {', '.join(self.prompt.choices)}."
        return f" ANSWER is a value under this JSON Schema: {self.prompt.json_schema}"

    def _schema(self) -> str:
        definitions: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        if self.reasoning_characters:
            fields["reasoning"] = {"type": "string", "maxLength": self.reasoning_characters}
        answer = (
            {"enum": list(self.prompt.choices)} if self.prompt.choices else json.loads(str(self.prompt.json_schema))
        )
        fields["answer"] = placed("answer", answer, definitions)
        return json.dumps({**object_of(fields), "$defs": definitions}, ensure_ascii=False)

    def save(self, folder: Path) -> None:
        """Write prompt and form."""
        state = {
            "prompt": self.prompt.as_state(),
            "reasoning_characters": self.reasoning_characters,
            "tried": as_rows(self.tried),
        }
        write_state(folder, self.technique, state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read prompt and form."""
        state = read_state(folder)
        return cls(Prompt.from_state(state["prompt"]), state["reasoning_characters"], from_rows(state["tried"]))


@dataclass(frozen=True, slots=True)
class StructuredOutput(Technique):
    """Have a JSON form filled in under a schema: reasoning of bounded length, then the answer."""

    name: ClassVar[str] = "structured_output"
    summary: ClassVar[str] = "a JSON form under a schema: a short reasoning, then the answer"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedStructuredOutput]] = FittedStructuredOutput

    reasoning: bool | None = None
    """Whether the form has room for reasoning before the answer; None chooses on dev."""
    reasoning_characters: int = 240
    """Longest reasoning; a small model left to itself repeats until its tokens run out."""

    def __post_init__(self) -> None:
        if self.reasoning_characters < 1:
            raise ValueError(
                f"reasoning_characters is {self.reasoning_characters}; to have no reasoning, set reasoning to false"
            )

    def unfit(self, task: Task) -> str | None:
        """Needs a form of answers."""
        if task.labels or task.output_schema is not None:
            return None
        return "the scenario has neither labels nor an output_schema"

    def suits(self, task: Task) -> str:
        """The answer's form is known."""
        return f"{len(task.labels)} labels are the only answers" if task.labels else "answers follow an output_schema"

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """One request; the form around the answer, and the reasoning before it where there is one."""
        prompt = Prompt.of(task)
        named = (False, True) if self.reasoning is None else (self.reasoning,)
        ways = [_way(prompt, replace(self, reasoning=reasoning)) for reasoning in named]
        return Plan(tuple(ways), rounds_ahead(ways, task.dev, prospect.seed))

    async def fit(self, task: Task, context: FitContext) -> FittedStructuredOutput:
        """Choose on dev whether reasoning helps, unless that was said."""
        prompt = Prompt.of(task)
        answering = FittedStructuredOutput(prompt, 0)
        thinking = FittedStructuredOutput(prompt, self.reasoning_characters)
        if self.reasoning is not None:
            return thinking if self.reasoning else answering
        options = {"answer": answering.solve, "reasoning, answer": thinking.solve}
        best, tried = await best_on_dev(options, context, task.dev)
        room = 0 if best == "answer" else self.reasoning_characters
        return FittedStructuredOutput(prompt, room, tried)


def _way(prompt: Prompt, settled: StructuredOutput) -> Way:
    fitted = FittedStructuredOutput(prompt, settled.reasoning_characters if settled.reasoning else 0)
    around = _FORM + _SENTENCE if settled.reasoning else _FORM

    def asks(sample: Sample) -> list[Ask]:
        return [Ask(fitted.request(sample.input), thought=around)]

    return Way("reasoning, answer" if settled.reasoning else "answer", asks, settled)
