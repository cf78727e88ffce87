"""Reads an answer as a patient person would: the right thing said in the wrong form. No model is asked."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from evals.scorers.base import Scorer, ScorerError
from evals.scorers.numeric import last_number
from evals.task import Sample

_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_PREFIX = re.compile(
    r"\b(?:(?:final|correct|right|best|the|my)\s+)*"
    r"(?:answer|label|category|class|intent|result|output|response|solution)\b"
    r"(?:\s+(?:is|would be|should be))?\s*[:=\-]?\s*",
    re.IGNORECASE,
)
_EMPHASIS = re.compile(r"(\*{1,3}|`{1,2}|_{2,3})(?=[^\s*`_])(.{1,200}?)(?<=\S)\1")
_SEPARATORS = re.compile(r"[\s_\-]+")
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|cannot)\b|n['’]t\b", re.IGNORECASE)
_JSON_STARTS = 20
"""Brackets at which JSON is looked for; a model that runs on may write thousands."""
_PREFIXES = 5
"""The last of them count; the others are part of what was said on the way."""
_SENTENCE_WORDS = 30
"""In a longer text a short answer may stand by chance, or among others."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Something that the answer may be taken to say."""

    text: str
    how: str
    """Where it stood, as the end of "12 were ..."."""


def lenient(output: str, sample: Sample, scorer: Scorer, answers: Sequence[str], threshold: float) -> Reading | None:
    """The first reading of an answer that scores at least `threshold`, or None.

    `answers` is the closed answer set, empty when answers are open. No reading looks at the target, but for a short
    open answer inside one sentence, where nothing else could tell what is meant.
    """
    relaxed = _any_case(scorer)
    found = [Reading(output, "in another case"), *readings(output, answers)]
    if not answers:
        found += _in_sentence(output, sample)
    return next((reading for reading in found if _value(relaxed, reading.text, sample) >= threshold), None)


def readings(output: str, answers: Sequence[str] = ()) -> Iterator[Reading]:
    """What the answer may be taken to say, likeliest first; blind to the target."""
    for fenced in _FENCED.findall(output):
        yield Reading(fenced.strip(), "in a code fence")
    ends = [match.end() for match in _PREFIX.finditer(output)]
    for rest in (output[end:].strip() for end in reversed(ends[-_PREFIXES:])):
        if rest:
            yield Reading(_bare(rest.splitlines()[0]), "behind a prefix")
    yield from _json_readings(output)
    if answers and (label := only_answer(output, answers)) is not None:
        yield Reading(label, "inside the text, as the only one of the known answers")
    emphasised = {match[2] for match in _EMPHASIS.finditer(output)}
    if len(emphasised) == 1:
        yield Reading(emphasised.pop(), "emphasised")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines[:1] + lines[-1:] if len(lines) > 1 else []:
        yield Reading(_bare(line), "on a line of its own")
    number = last_number(output)
    if number is not None and number.text != output.strip():
        yield Reading(number.text, "the last number of the text")


def only_answer(text: str, answers: Sequence[str]) -> str | None:
    """The one of the known answers that occurs in a text, as whole words; None when none or several do."""
    plain = _plain(text)
    found: set[str] = set()
    for answer in sorted(answers, key=lambda answer: (-len(answer), answer)):
        # Longest first and blotted out, so that `card` is not found in `lost card`.
        plain, hits = re.subn(rf"(?<!\w){re.escape(_plain(answer))}(?!\w)", "\0", plain)
        if hits:
            found.add(answer)
    return found.pop() if len(found) == 1 else None


def _plain(text: str) -> str:
    return _SEPARATORS.sub(" ", text.casefold()).strip()


def _bare(text: str) -> str:
    """A text without the marks that often enclose an answer."""
    return text.strip().strip("*`_\"'“”[](){}<>").rstrip(".!").strip()


def _json_readings(output: str) -> Iterator[Reading]:
    """The first JSON value in a text, and what it holds when it wraps a single text or number."""
    decoder = json.JSONDecoder()
    for match in itertools.islice(re.finditer(r"[{\[]", output), _JSON_STARTS):
        try:
            value, end = decoder.raw_decode(output, match.start())
        except ValueError:
            continue
        except RecursionError:
            return
        yield Reading(output[match.start() : end], "as JSON inside a text")
        inner = _only_value(value)
        if inner is not None:
            yield Reading(inner, "wrapped in JSON")
        return


def _only_value(value: Any) -> str | None:
    parts = list(value.values()) if isinstance(value, dict) else value
    if len(parts) == 1 and isinstance(parts[0], str | int | float) and not isinstance(parts[0], bool):
        return str(parts[0])
    return None


def _in_sentence(output: str, sample: Sample) -> Iterator[Reading]:
    """The target where it stands as whole words in a short text that denies nothing; numbers are read elsewhere."""
    short = len(output.split()) <= _SENTENCE_WORDS and not _NEGATION.search(output)
    if not short or last_number(sample.target) is not None:
        return
    match = re.search(rf"(?<!\w){re.escape(_plain(sample.target))}(?!\w)", _plain(output))
    if match is not None:
        yield Reading(sample.target, "inside a sentence")


def _any_case(scorer: Scorer) -> Scorer:
    """The scorer without regard to case, where it has that option."""
    options: Any = scorer
    if dataclasses.is_dataclass(options) and getattr(options, "case_sensitive", False):
        return cast(Scorer, dataclasses.replace(cast(Any, options), case_sensitive=False))
    return scorer


def _value(scorer: Scorer, text: str, sample: Sample) -> float:
    try:
        return scorer(text, sample).value
    except ScorerError:
        return 0.0
