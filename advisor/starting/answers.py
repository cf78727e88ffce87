"""What kind of answers the targets are: labels, numbers, JSON, calls, SQL or text; and the scorer that suits them."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.starting.draft import Example, Guess, Measure
from advisor.starting.schemas import schema_of
from backends.errors import InputError
from backends.wording import counted
from evals.scorers import ModelScorer, ScorerError, make_scorer, right_answer
from evals.scorers.text import normalise, squad_words

_MOST_LABELS = 200
_LONGEST_LABEL = 60
"""Characters."""
_ROWS_PER_LABEL = 3
"""On average, at least: fewer would be no closed set but texts that happen to repeat."""
_ROWS_PER_NUMBER = 10
"""The same for labels that are numbers, which are more often quantities."""
_SHORT_WORDS = 15
"""Nine of ten answers of a short kind have no more."""
_FEWEST_CHARACTERS = 10
"""Of a text, in the middle: signs that are no words have nothing in common but all."""
_NUMBER = re.compile(r"[-+]?[$€£]?\s*\d[\d,]*(?:\.\d+)?\s*%?|[-+]?\.\d+")
_QUERY = re.compile(r"\s*\(*\s*(?:select|with)\b.*\bfrom\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Answers:
    """What the targets told."""

    measure: Measure
    target: float
    """A target of the goal to begin with."""
    labels: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    guesses: tuple[Guess, ...] = ()


def understand(examples: Sequence[Example], known: bool) -> Answers:
    """Guess labels, schema and scorer from the targets; every right answer scores 1 by the scorer guessed.

    `known` is False where targets are no answers; then nothing is read from them.
    """
    if not known:
        return Answers(Measure("exact"), 0.8)
    targets = [example.target for example in examples]
    for guess in (_calls, _objects, _labels, _numbers, _queries, _spans, _texts):
        found = guess(targets)
        if found is not None and fits(found.measure, examples):
            return found
    why = "no other scorer gives every target itself full marks"
    check = "Is an answer right only when it is word for word the target?"
    return Answers(Measure("exact"), 0.8, guesses=(Guess("scorer", "exact", why, check),))


def fits(measure: Measure, examples: Sequence[Example]) -> bool:
    """Whether the scorer gives every right answer full marks; for one that asks models, whether it could be asked."""
    try:
        scorer = make_scorer(measure.scorer, Path())
        for example in examples:
            sample = example.sample()
            answer = right_answer(scorer, sample)
            if answer is None or isinstance(scorer, ModelScorer):
                continue
            if scorer(answer, sample).value < 1:
                return False
    except (ScorerError, InputError):
        return False
    return True


def baseline(targets: Sequence[str]) -> tuple[str, float]:
    """The commonest target and its share: what an answer that never changes would score."""
    target, number = Counter(targets).most_common(1)[0]
    return target, number / len(targets)


def _parsed(targets: Sequence[str]) -> list[Any] | None:
    """The targets as JSON values, None when one of them is no object or list."""
    values = []
    for target in targets:
        if not target.startswith(("{", "[")):
            return None
        try:
            values.append(json.loads(target))
        except (ValueError, RecursionError):
            return None
    return values


def _calls(targets: Sequence[str]) -> Answers | None:
    values = _parsed(targets)
    if values is None:
        return None
    calls = [call for value in values for call in (value if isinstance(value, list) else [value])]
    if not calls or not all(isinstance(one, dict) and set(one) == {"name", "arguments"} for one in calls):
        return None
    why = "every target is a list of calls with name and arguments"
    check = "Do other values of an argument count as right, too? A field `accepted` can list them."
    return Answers(Measure("tool_calls"), 0.8, guesses=(Guess("scorer", "tool_calls", why, check),))


def _objects(targets: Sequence[str]) -> Answers | None:
    values = _parsed(targets)
    if values is None or not all(isinstance(value, dict) for value in values):
        return None
    schema = schema_of(values)
    guesses = (
        Guess(
            "scorer",
            "json_fields",
            "every target is a JSON object; the score is the share of fields that are right",
            "Is an answer worth something when half of its fields are right? If not, add strict: true.",
        ),
        Guess(
            "output_schema",
            "schema.json",
            f"made from the {len(values)} targets: answers are held to it",
            "Could a right answer have a field, a type or a value that no target has? Then widen schema.json.",
        ),
    )
    return Answers(Measure("json_fields"), 0.9, schema=schema, guesses=guesses)


def _labels(targets: Sequence[str]) -> Answers | None:
    counts = Counter(targets)
    rows, distinct = len(targets), len(counts)
    numbers = all(_NUMBER.fullmatch(label) for label in counts)
    if not 2 <= distinct <= min(_MOST_LABELS, rows // (_ROWS_PER_NUMBER if numbers else _ROWS_PER_LABEL)):
        return None
    if min(counts.values()) < 2 or max(map(len, counts)) > _LONGEST_LABEL or any("\n" in label for label in counts):
        return None
    if len({normalise(label) for label in counts}) < distinct:
        return None
    label, share = baseline(targets)
    labels = tuple(sorted(counts))
    check = "Is the list complete? A label that no row has yet must be added by hand. Are all of them still in use?"
    why = f"{rows} rows have only {distinct} different targets, each at least {counted(min(counts.values()), 'time')}"
    guesses = (
        Guess("labels", f"{distinct} labels", why, check),
        Guess("scorer", "exact", "an answer is one of the labels", "Are all mistakes equally bad? `exact` says so."),
        *_lopsided(label, share),
    )
    return Answers(Measure("exact"), _above(share), labels, guesses=guesses)


def _above(share: float) -> float:
    """A target that an answer which never changes does not reach."""
    return round(max(0.8, min(0.97, share + (1 - share) / 2)), 2)


def _lopsided(label: str, share: float) -> tuple[Guess, ...]:
    if share <= 0.5:
        return ()
    why = f"always answering {label!r} would score {share:.2f}"
    check = "Is the share of right answers what you care about? A rare label hardly moves it."
    return (Guess("balance", f"{share:.0%} of the rows are {label!r}", why, check),)


def _numbers(targets: Sequence[str]) -> Answers | None:
    if not all(_NUMBER.fullmatch(target) for target in targets):
        return None
    why = "every target is a number"
    check = "Must the number be exact? If not, add tolerance or relative_tolerance."
    return Answers(Measure("numeric"), 0.8, guesses=(Guess("scorer", "numeric", why, check),))


def _queries(targets: Sequence[str]) -> Answers | None:
    if not all(_QUERY.match(target) for target in targets):
        return None
    why = "every target is one SQL query"
    check = "Name the dialect (`dialect: sqlite`, ...). Another query with the same result counts as wrong."
    return Answers(Measure("sql_logical_form"), 0.7, guesses=(Guess("scorer", "sql_logical_form", why, check),))


def _spans(targets: Sequence[str]) -> Answers | None:
    words = sorted(len(squad_words(target)) for target in targets)
    if not words[0]:
        return None
    if words[int(0.9 * (len(words) - 1))] > _SHORT_WORDS:
        return None
    why = f"targets are short texts, {statistics.median(words):g} words in the middle; words in common count"
    check = "Must the answer be exact? Then write exact. Do several answers count? See `references`."
    return Answers(Measure("token_f1"), 0.7, guesses=(Guess("scorer", "token_f1", why, check),))


def _texts(targets: Sequence[str]) -> Answers | None:
    if statistics.median(map(len, targets)) < _FEWEST_CHARACTERS:
        return None
    latin = sum(bool(re.search(r"[a-zA-Z0-9]{2}", target)) for target in targets)
    name, what = ("rouge_l", "words in common, in order") if latin == len(targets) else ("chrf", "characters in common")
    words = statistics.median(len(target.split()) for target in targets)
    why = f"targets are texts of {words:g} words in the middle; {what} count"
    check = (
        "A good answer in other words scores low, and a wrong one in the same words high. A judge with a rubric may "
        "say better what you mean (docs/scorers.md, judge)."
    )
    guesses = (Guess("scorer", name, why, check),)
    return Answers(Measure(name), 0.4, guesses=guesses)
