"""The scorer `regex`: whether the answer has the form that a regular expression describes."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from evals.scorers.base import ScorerError, shorten
from evals.task import Sample
from evals.trial import Score

FROM_TARGET = "target"
"""In place of a pattern: each sample's target is its pattern."""

_LONGEST = 20_000
"""Characters of the longest answer that is matched: patterns are trusted, but time may grow with the length squared."""


def _compiles(pattern: str) -> str:
    if fault := _fault(pattern):
        raise PydanticCustomError("pattern", "not a regular expression ({fault})", {"fault": fault})
    return pattern


@dataclass(frozen=True, slots=True)
class Regex:
    """1 when the pattern matches the whole answer, spaces at its ends aside, else 0. Python's `re` syntax."""

    pattern: Annotated[str, AfterValidator(_compiles)]
    """The pattern; every target must match it too. `target`: each sample's target is its own pattern."""
    search: bool = False
    """True: it may match anywhere in the answer."""

    name: ClassVar[str] = "regex"
    binary: ClassVar[bool] = True

    def right_answer(self, sample: Sample) -> str | None:
        """The target where it is an answer; none can be made from a pattern. Raises ScorerError for a broken one."""
        if self.pattern != FROM_TARGET:
            return sample.target
        self._wanted(sample)
        return None

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer."""
        wanted = self._wanted(sample)
        if len(output) > _LONGEST:
            return Score(0.0, f"an answer of {len(output)} characters is too long to match ({_LONGEST} at most)")
        answer = output.strip()
        found = wanted.search(answer) if self.search else wanted.fullmatch(answer)
        if found is None:
            return Score(0.0, f"{shorten(output)} does not match {shorten(wanted.pattern)}")
        return Score(1.0, f"{shorten(found[0])} matches {shorten(wanted.pattern)}")

    def _wanted(self, sample: Sample) -> re.Pattern[str]:
        pattern = sample.target if self.pattern == FROM_TARGET else self.pattern
        if fault := _fault(pattern):
            raise ScorerError(f"the target {pattern!r} of sample {sample.id} is not a regular expression: {fault}")
        return _compiled(pattern)


def _fault(pattern: str) -> str | None:
    """Why a pattern does not compile, or None."""
    try:
        _compiled(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error) or type(error).__name__
    return None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        # "Possible nested set": Python may one day read `[[` in another way; nothing the user can act on today.
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(pattern)
