"""What a source came to, before it is a scenario: its examples, how answers are scored, and what had to be guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backends.errors import InputError, Problem
from evals.task import Sample, Split

OWN_FIELDS = frozenset({"id", "input", "target", "group", "checks", "references"})
"""Fields of our data that play a part; what a source calls so is not copied beside them."""


@dataclass(frozen=True, slots=True)
class Guess:
    """Something that the source does not say, and that a person should look at."""

    what: str
    """The part of the scenario it is about."""
    value: str
    """What was guessed."""
    why: str
    """What speaks for it; begins in lower case, ends without a full stop."""
    check: str = ""
    """What to look at, as a sentence; empty where there is nothing to doubt."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a source on its way to a Sample."""

    input: str
    target: str
    place: str
    """`file:line` or the like, for problems."""
    id: str | None = None
    group: str | None = None
    split: Split | None = None
    """The split the source puts it in, None where it does not say."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else the row says; becomes metadata."""

    def sample(self) -> Sample:
        """The example as scorers see it."""
        return Sample(self.id or self.place, self.input, self.target, self.fields, self.group)


@dataclass(frozen=True, slots=True)
class Measure:
    """How answers are scored."""

    scorer: str | Mapping[str, Any]
    """As `scenario.yaml` says it."""
    code: str | None = None
    """`scorers.py`, where no scorer that ships says it."""


@dataclass(frozen=True)
class Draft:
    """All that a source says; what it leaves open is None and is guessed later."""

    kind: str
    """What the source is, in words."""
    examples: tuple[Example, ...]
    instructions: str | None = None
    measure: Measure | None = None
    answers_known: bool = True
    """False where some targets only describe what is checked: nothing may learn from them."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Tools with name, description and parameters."""
    models: tuple[str, ...] = ()
    """Models that the source names, as we write them."""
    pass_rate: float | None = None
    """Share of answers that passed when the source was last run, None when it does not say."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Limits of the goal that the source states, by our key."""
    guesses: tuple[Guess, ...] = ()
    lost: tuple[str, ...] = ()
    """What was not taken over, one sentence each."""


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping of a foreign file; an empty one where something else stands in its place."""
    return value if isinstance(value, Mapping) else {}


def listed(value: Any) -> list[Any]:
    """A list of a foreign file; an empty one where something else stands in its place."""
    return value if isinstance(value, list) else []


def refuse(where: str, what: str, remedy: str) -> InputError:
    """The error for a source that no scenario can be made of."""
    return InputError(Problem(where, what, remedy))
