"""One candidate on one sample: what came out, what it scored, what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from backends.meter import Step
from backends.types import Usage
from evals.task import Split

FITTING = "fit: "
"""Beginning of the variant of trials by which a technique chose its own settings: fitting cost."""
ABLATION = "ablation: "
"""Beginning of the variant of trials that a diagnosis made: evaluation, seen by no verdict."""

RETENTION = "retention: "
"""Beginning of the variant of trials on general questions, before and after a training: evaluation."""
MISTAKES = "mistakes: "
"""Beginning of the variant of trials on further dev samples, to find a tuned model's mistakes by: evaluation."""
FORMER = "former: "
"""Beginning of the variant of trials of the tuned model that a training went on from: evaluation."""
ASIDE = (FITTING, ABLATION, RETENTION, MISTAKES, FORMER)
"""Beginnings of variants that no candidate is judged by."""


def whole_characters(text: str) -> str:
    """The text with each half of a surrogate pair replaced by U+FFFD; halves that belong together become a character.

    Models write such halves, through JSON escapes for instance, and no file, database or endpoint takes them.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True, slots=True)
class Score:
    """A judgement of one answer."""

    value: float
    """In [0, 1]; higher is better."""
    reason: str = ""
    """One line a person can check the value by."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise ValueError(f"a score lies in [0, 1], got {self.value!r}")


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate on one sample. Exactly one of `score` and `error` is set."""

    candidate: str
    split: Split
    sample_id: str
    output: str | None
    score: Score | None
    error: str | None
    """What went wrong, for people; a failed trial is not a wrong answer."""
    usage: Usage
    """Serving cost: everything the candidate asked of models to answer this sample."""
    seconds: float
    """Seconds of model time the answer took, in the order its calls depended on each other; 0 where it cannot be
    told, because an answer came in a batch."""
    cached_requests: int = 0
    """How many of the requests, of the candidate and of its scorer, the response cache answered: nobody paid again."""
    response_keys: tuple[str, ...] = ()
    """Keys of the responses in the store, in call order."""
    variant: str = ""
    """Which trial of this candidate on this sample, where there are several: hyperparameters tried on dev, a
    repetition, the fresh look at a pick, an ablation; empty for the trial that counts."""
    steps: tuple[Step, ...] = ()
    """Named parts of the work, where the candidate has any: the prompts of a chain, a retrieval, a tool's call."""
    scoring: Usage = field(default_factory=Usage)
    """What a scorer that asks models used; evaluation, not serving."""
    first_token_seconds: float | None = None
    """Seconds until a user would see the answer begin, what came before the last call included; None where the
    backend does not tell."""
