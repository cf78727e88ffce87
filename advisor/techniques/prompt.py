"""The prompt of a task: instructions, worked examples as earlier turns, and what an answer may look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from backends.types import ChatRequest, Message
from evals.task import Sample, Task

_CHARACTERS_PER_TOKEN = 2
"""Fewer than any tokenizer needs for natural text, so that the limit does not cut a right answer."""
_MOST_TOKENS = 1024
_CHARACTERS_PER_PROMPT_TOKEN = 4
"""About what tokenizers need for English; an estimate, where a limit is soft."""
_TURN_TOKENS = 8
"""What a chat template writes around an example's two turns, about."""
_MOST_PROMPT_TOKENS = 3000
"""Of a prompt with examples: small models read no more, and dear ones are asked this often."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A worked example: what comes in and what is to come out."""

    input: str
    target: str

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """The part of a sample that may be shown to a model."""
        return cls(sample.input, sample.target)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Turns an input into a request."""

    instructions: str
    choices: tuple[str, ...]
    json_schema: str | None
    max_tokens: int

    @classmethod
    def of(cls, task: Task) -> Self:
        """The task's own instructions; answers limited to its labels or schema, length by the train targets."""
        longest = max((len(sample.target) for sample in task.train), default=256)
        return cls(
            instructions=task.instructions.strip(),
            choices=task.labels,
            json_schema=task.output_schema,
            max_tokens=min(_MOST_TOKENS, longest // _CHARACTERS_PER_TOKEN + 16),
        )

    def shortened(self, instructions: str) -> Prompt:
        """The same answers from other instructions."""
        return replace(self, instructions=instructions)

    def messages(self, text: str, demonstrations: Sequence[Demonstration] = ()) -> tuple[Message, ...]:
        """The conversation up to the answer to `text`."""
        turns = [Message("system", self.instructions)]
        for shown in demonstrations:
            turns += [Message("user", shown.input), Message("assistant", shown.target)]
        return (*turns, Message("user", text))

    def request(self, text: str, demonstrations: Sequence[Demonstration] = ()) -> ChatRequest:
        """A greedy request for the answer to `text`."""
        return ChatRequest(
            self.messages(text, demonstrations),
            max_tokens=self.max_tokens,
            choices=self.choices,
            json_schema=self.json_schema,
        )

    def as_state(self) -> dict[str, Any]:
        """JSON-ready form; `from_state` reads it."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Read what as_state gave."""
        return cls(**{**state, "choices": tuple(state["choices"])})


def fitting_sizes(sizes: Sequence[int], prompt: Prompt, train: Sequence[Sample]) -> list[int]:
    """Those numbers of examples whose prompt is not too long, by the mean length of the samples.

    Where none fits, the largest number that does, and never less than one.
    """
    lengths = [len(sample.input) + len(sample.target) for sample in train]
    example = max(1.0, sum(lengths) / len(lengths) / _CHARACTERS_PER_PROMPT_TOKEN + _TURN_TOKENS)
    most = int((_MOST_PROMPT_TOKENS - len(prompt.instructions) / _CHARACTERS_PER_PROMPT_TOKEN) / example)
    return [size for size in sizes if size <= most] or [max(1, min(most, sizes[0]))]
