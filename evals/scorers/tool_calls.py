"""The scorer `tool_calls`: whether the right tools would be called with the right arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from evals.scorers.base import ScorerError, shorten
from evals.scorers.json_fields import parse_answer
from evals.scorers.text import normalise
from evals.task import Sample
from evals.trial import Score

_MAY_BE_LEFT_OUT = ""
"""Among the accepted values of an argument, as the Berkeley leaderboard writes it."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A right call: its tool and the values that each argument may have."""

    name: str
    accepted: Mapping[str, Sequence[Any]]

    def optional(self, argument: str) -> bool:
        return _MAY_BE_LEFT_OUT in self.accepted[argument]


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Compares the calls of an answer with those of the target, in whatever order they stand.

    Target and answer are JSON: a list of `{"name": ..., "arguments": {...}}`, or one such call. An empty list means
    that no tool fits. Several right values of an argument are read from the sample's `accepted`: per call an object
    of lists, `""` among the values of an argument that may be left out (the format of the Berkeley leaderboard).
    Numbers are compared by value; an answer that is not JSON or no list of calls scores 0.
    """

    mode: Literal["exact", "partial"] = "exact"
    """`exact`: 1 when every call is right and none is missing or left over, else 0. `partial`: the F1 of the calls,
    where a call with the right name counts by the F1 of its name and arguments, and any other not at all."""
    case_sensitive: bool = False
    """True: `Paris` and `paris` differ, and so do texts that differ in spaces."""

    name: ClassVar[str] = "tool_calls"

    @property
    def binary(self) -> bool:
        """True when the score is all or nothing."""
        return self.mode == "exact"

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer."""
        wanted = _wanted(sample)
        try:
            made = _calls(parse_answer(output))
        except ValueError as problem:
            return Score(0.0, f"no calls ({problem}): {shorten(output)}")
        try:
            return self._compared(wanted, made)
        except RecursionError:
            return Score(0.0, f"nested too deeply: {shorten(output)}")

    def _compared(self, wanted: Sequence[_Wanted], made: Sequence[Mapping[str, Any]]) -> Score:
        if not wanted and not made:
            return Score(1.0, "rightly no call")
        shares = np.array([[self._share(want, call) for call in made] for want in wanted]).reshape(
            len(wanted), len(made)
        )
        pairs = _best_pairs(shares)
        right = float(sum(shares[pair] for pair in pairs))
        value = min(1.0, 2 * right / (len(wanted) + len(made)))
        reason = self._difference(wanted, made, shares, pairs) or f"all {len(wanted)} calls right"
        is_exact = len(wanted) == len(made) and all(shares[pair] == 1.0 for pair in pairs)
        return Score(float(is_exact) if self.binary else value, reason)

    def _share(self, want: _Wanted, call: Mapping[str, Any]) -> float:
        """F1 of a call's name and arguments; 0 for another tool."""
        if call["name"] != want.name:
            return 0.0
        given = call["arguments"]
        right = 1 + sum(self._accepts(want.accepted.get(name, ()), value) for name, value in given.items())
        asked = 1 + sum(name in given or not want.optional(name) for name in want.accepted)
        return 2 * right / (1 + len(given) + asked)

    def _difference(
        self,
        wanted: Sequence[_Wanted],
        made: Sequence[Mapping[str, Any]],
        shares: np.ndarray[Any, Any],
        pairs: Sequence[tuple[int, int]],
    ) -> str:
        """What differs first, empty when nothing does."""
        partner = {i: j for i, j in pairs if shares[i, j] > 0}
        for i, want in enumerate(wanted):
            if i not in partner:
                return f"{want.name} is not called" + (f", but {made[0]['name']}" if made else "")
            if shares[i, partner[i]] < 1:
                return f"{want.name}: {self._argument_difference(want, made[partner[i]]['arguments'])}"
        extra = [call["name"] for j, call in enumerate(made) if j not in partner.values()]
        return f"{extra[0]} is called, which is not wanted" if extra else ""

    def _argument_difference(self, want: _Wanted, given: Mapping[str, Any]) -> str:
        for name, accepted in want.accepted.items():
            if name not in given and not want.optional(name):
                return f"{name} is missing"
            if name in given and not self._accepts(accepted, given[name]):
                return f"{name} is {shorten(_json(given[name]))}, wanted {shorten(_json(accepted[0]))}"
        return f"{next(name for name in given if name not in want.accepted)} is not wanted"

    def _accepts(self, accepted: Sequence[Any], value: Any) -> bool:
        return any(self._fits(one, value) for one in accepted)

    def _fits(self, accepted: Any, value: Any) -> bool:
        """Whether a value is the accepted one; values inside an accepted object may be lists of accepted values."""
        if isinstance(accepted, dict) and isinstance(value, dict):
            return all(name in accepted for name in value) and all(
                self._field_fits(accepted[name], value, name) for name in accepted
            )
        if isinstance(accepted, list) and isinstance(value, list):
            return len(accepted) == len(value) and all(map(self._fits, accepted, value))
        return self._same(accepted, value)

    def _field_fits(self, accepted: Any, value: Mapping[str, Any], name: str) -> bool:
        if name not in value:
            return isinstance(accepted, list) and _MAY_BE_LEFT_OUT in accepted
        return self._fits(accepted, value[name]) or (
            isinstance(accepted, list) and self._accepts(accepted, value[name])
        )

    def _same(self, left: Any, right: Any) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return left == right if self.case_sensitive else normalise(left) == normalise(right)
        return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _best_pairs(shares: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """The pairing of wanted and made calls with the largest sum of shares (Hungarian algorithm)."""
    if shares.size <= 1:
        return [(0, 0)] if shares.size else []
    from scipy.optimize import linear_sum_assignment  # takes a third of a second, and most samples have one call

    rows, columns = linear_sum_assignment(shares, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]


def _wanted(sample: Sample) -> list[_Wanted]:
    """The right calls of a sample. Raises ScorerError when its target or `accepted` is none."""
    try:
        calls = _calls(parse_answer(sample.target))
    except ValueError as problem:
        raise ScorerError(f"the target of sample {sample.id} is no list of calls: {problem}") from None
    accepted = sample.metadata.get("accepted")
    if accepted is None:
        return [_Wanted(call["name"], {name: [value] for name, value in call["arguments"].items()}) for call in calls]
    try:
        return [_Wanted(str(one["name"]), _lists(one["arguments"])) for one in accepted]
    except (KeyError, TypeError, AttributeError):
        raise ScorerError(
            f"`accepted` of sample {sample.id} is no list of calls whose arguments are lists of values"
        ) from None


def _lists(arguments: Mapping[str, Any]) -> dict[str, list[Any]]:
    if not all(isinstance(values, list) and values for values in arguments.values()):
        raise TypeError
    return dict(arguments)


def _calls(value: Any) -> list[dict[str, Any]]:
    """The calls that a JSON value holds; arguments may be JSON text. Raises ValueError."""
    found = value if isinstance(value, list) else [value]
    calls = []
    for one in found:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise ValueError("a call has a name and arguments")
        arguments = one.get("arguments", {})
        if isinstance(arguments, str):
            arguments = parse_answer(arguments)
        if not isinstance(arguments, dict):
            raise ValueError("the arguments of a call are an object")
        calls.append({"name": one["name"], "arguments": arguments})
    return calls


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
