"""Self-consistency: several sampled answers to one input, and a vote (Wang et al. 2022, arXiv:2203.11171)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from advisor.span import NONE, Span
from advisor.techniques.base import FitContext, Technique, read_state, write_state
from advisor.techniques.forecast import Ask, Plan, Prospect, Way
from advisor.techniques.instructions import THOUGHT, after_marker, closed, thinking
from advisor.techniques.prompt import Prompt
from backends.meter import Meter
from backends.types import ChatRequest
from evals.scorers.numeric import last_number
from evals.scorers.text import normalise
from evals.task import Sample, Task

_MOST_SAMPLES = 100
_LONG_ANSWER = 10
"""Words; two sampled answers that are longer hardly ever agree, so that there is nothing to vote on."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What a vote gave."""

    answer: str
    """The first of the answers that agree with the majority, as the model wrote it."""
    share: float
    """Share of the answers that agree with it, in (0, 1]: how sure the model is."""


@dataclass(frozen=True, slots=True)
class FittedSelfConsistency:
    """Self-consistency with its prompt."""

    technique: ClassVar[str] = "self_consistency"
    prompt: Prompt
    n: int
    temperature: float
    seed: int

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How many answers are drawn, and at which temperature."""
        return {"n": self.n, "temperature": self.temperature}

    @property
    def tuned(self) -> None:
        """Answers with the candidate's own model."""
        return None

    async def solve(self, sample: Sample, models: Meter) -> str:
        """`n` requests side by side, and a vote."""
        return (await self.ask(sample, models)).answer

    async def ask(self, sample: Sample, models: Meter) -> Vote:
        """The vote with its share, for callers that want to know how sure the model is."""
        responses = await models.complete_all([self._request(sample.input, number) for number in range(self.n)])
        texts = [response.text for response in responses]
        return vote(texts if closed(self.prompt) else [after_marker(text) for text in texts])

    def _request(self, text: str, number: int) -> ChatRequest:
        """Where the answer's form is enforced it is sampled as it is, else together with a thought before it."""
        request = self.prompt.request(text) if closed(self.prompt) else thinking(self.prompt, text)
        return replace(request, temperature=self.temperature, seed=self.seed + number, repeat=number)

    def save(self, folder: Path) -> None:
        """Write prompt and settings."""
        write_state(folder, self.technique, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read prompt and settings."""
        state = read_state(folder)
        return cls(Prompt.from_state(state["prompt"]), state["n"], state["temperature"], state["seed"])


@dataclass(frozen=True, slots=True)
class SelfConsistency(Technique):
    """Draw `n` answers at a temperature, with a thought before each where answers are free, and let them vote."""

    name: ClassVar[str] = "self_consistency"
    summary: ClassVar[str] = "several sampled answers to every input, and a vote"
    tunes: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    fitted: ClassVar[type[FittedSelfConsistency]] = FittedSelfConsistency

    n: int = 5
    """Number of answers drawn."""
    temperature: float = 0.7
    """Higher values make the answers differ more; this is the paper's value for PaLM-540B and GPT-3."""

    def __post_init__(self) -> None:
        if not 2 <= self.n <= _MOST_SAMPLES:
            raise ValueError(f"n is {self.n}, but a vote needs 2 to {_MOST_SAMPLES} answers")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature:g}, but without sampling all answers are the same")

    def unfit(self, task: Task) -> str | None:
        """Always makes sense to ask; whether votes can agree is for `skip`."""
        return None

    def skip(self, task: Task) -> str | None:
        """Free long answers never agree word for word."""
        if task.labels:
            return None
        if task.output_schema is not None:
            return "sampled JSON answers seldom agree in every field"
        words = sorted(len(sample.target.split()) for sample in (*task.train, *task.dev))
        if words and words[len(words) // 2] > _LONG_ANSWER:
            return f"answers of {words[len(words) // 2]} words hardly ever agree, so there is nothing to vote on"
        return None

    def suits(self, task: Task) -> str:
        """Answers can agree."""
        return "answers are labels, so they can vote" if task.labels else "answers are short, so they can vote"

    def forecast(self, task: Task, prospect: Prospect) -> Plan:
        """`n` requests, each with a thought where answers are free."""
        prompt = Prompt.of(task)
        times, thought = Span.exactly(self.n), NONE if closed(prompt) else THOUGHT

        def asks(sample: Sample) -> list[Ask]:
            request = prompt.request(sample.input) if closed(prompt) else thinking(prompt, sample.input)
            return [Ask(request, times, thought=thought, at_once=True)]

        return Plan((Way(f"{self.n} answers", asks, self),))

    async def fit(self, task: Task, context: FitContext) -> FittedSelfConsistency:
        """Nothing to learn."""
        return FittedSelfConsistency(Prompt.of(task), self.n, self.temperature, context.seed)


def vote(answers: Sequence[str]) -> Vote:
    """The majority of one or more answers; ties go to the answer that appeared first."""
    forms = [_form(answer) for answer in answers]
    winner = max(dict.fromkeys(forms), key=forms.count)
    return Vote(answers[forms.index(winner)], forms.count(winner) / len(forms))


def _form(answer: str) -> str:
    """What makes two answers the same: the value of a number or JSON text, else the text as scorers compare it."""
    plain = normalise(answer)
    number = last_number(plain)
    if number is not None and plain.strip("$€£ ") == number.text.strip("$€£ "):
        return f"{number.value}{'%' if number.percent else ''}"
    if plain[:1] in {"{", "["}:
        try:
            return json.dumps(json.loads(answer), sort_keys=True)
        except (ValueError, RecursionError):
            return plain
    return plain
