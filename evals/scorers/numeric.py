"""The scorer `numeric`: the last number of the answer against the number of the target."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

from pydantic import Field

from evals.scorers.base import ScorerError, shorten
from evals.task import Sample
from evals.trial import Score

_LONGEST = 60
"""Characters of the longest number that is read; what is longer is no quantity (and slow to calculate with)."""

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!,?\d)|\d+)"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]%.])-\s?[$€£]?|(?<=[$€£])-)?"  # a minus, not the hyphen of 10-5 or covid-19
    r"(?:"
    r"(?:(?P<units>(?<![\d.,/])\d+)\s)?(?P<over>(?<![\d.,/])\d+)\s?/\s?(?P<under>\d+)(?![\d/]|[.,]\d)"  # 3/4, 1 3/4
    rf"|(?P<plain>{_WHOLE}(?:\.\d+)?|\.\d+)(?:[eE](?P<exponent>[-+]?\d{{1,3}})(?!\w))?"
    r")"
    r"(?P<percent>\s?%)?"
)
_GROUPING_SPACE = re.compile("(?<=\\d)[\u00a0\u2009\u202f](?=\\d{3}(?!\\d))")
_SIGNS = {ord(char): "-" for char in "−–﹣－"}
_FRACTIONS = {ord(char): " " + unicodedata.normalize("NFKC", char).replace("⁄", "/") for char in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}


@dataclass(frozen=True, slots=True)
class Number:
    """A number as an answer writes it."""

    value: Fraction
    percent: bool
    text: str

    def readings(self) -> tuple[Fraction, ...]:
        """50% is 50 where percent are meant and 0.5 where a share is."""
        return (self.value, self.value / 100) if self.percent else (self.value,)


def last_number(text: str) -> Number | None:
    """The last number in a text, or None.

    Read are 1,234.5 and 1 234 (no-break spaces), -3, .5, 2e-4, 3/4, 1 3/4, ½, $5 and 12%. Words are not numbers.
    """
    plain = _GROUPING_SPACE.sub("", text).translate(_SIGNS | _FRACTIONS)
    for match in reversed(list(_NUMBER.finditer(plain))):
        if len(match[0]) <= _LONGEST:
            value = _value(match)
            if value is not None:
                return Number(value, match["percent"] is not None, match[0].strip())
    return None


def _value(match: re.Match[str]) -> Fraction | None:
    if match["over"]:
        if int(match["under"]) == 0:
            return None
        value = Fraction(int(match["over"]), int(match["under"])) + int(match["units"] or 0)
    else:
        value = Fraction(match["plain"].replace(",", "")) * Fraction(10) ** int(match["exponent"] or 0)
    return -value if match["sign"] else value


@dataclass(frozen=True, slots=True)
class Numeric:
    """1 when the last number of the answer is the target's number, else 0.

    The values are compared exactly, as fractions, unless a tolerance is given. When just one of the two is written
    with a percent sign, both readings of it count: 50% equals 50 and 0.5.
    """

    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """How far apart the numbers may be."""
    relative_tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """How far apart they may be, as a share of the target; the larger allowance counts."""

    name: ClassVar[str] = "numeric"
    binary: ClassVar[bool] = True

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer."""
        want = last_number(sample.target)
        if want is None:
            raise ScorerError(f"the target {sample.target!r} of sample {sample.id} has no number in it")
        got = last_number(output)
        if got is None:
            return Score(0.0, f"no number in {shorten(output)}, want {want.text}")
        if got.percent == want.percent:
            right = self._near(got.value, want.value)
        else:
            right = any(self._near(have, wish) for have in got.readings() for wish in want.readings())
        return Score(float(right), f"{got.text} {'is' if right else 'is not'} {want.text}")

    def _near(self, have: Fraction, wish: Fraction) -> bool:
        allowed = max(Fraction(str(self.tolerance)), Fraction(str(self.relative_tolerance)) * abs(wish))
        return abs(have - wish) <= allowed
