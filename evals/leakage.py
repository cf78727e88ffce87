"""Finds what would make a measurement lie: samples twice, test inputs seen in training, groups cut in two."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from backends.errors import Problem
from evals.data import Placed, as_text, capped
from evals.task import Sample, Split

_MARK = re.compile(r"(?![-.,]\d)[^\w\s]|_")
_CONTEXT = ("choices", "context", "documents", "tools")
"""Fields that belong to the question: the same words with other tools are another question."""

Question = tuple[str, ...]
Splits = Mapping[Split, Sequence[Placed]]


def normalise_input(text: str) -> str:
    """The form in which inputs are compared: NFKC, case folded, punctuation and runs of whitespace as one space.

    A minus, point or comma before a digit stays, since it makes another number; a text of nothing but punctuation
    stays as it is.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_MARK.sub(_space, text).split()) or " ".join(text.split())


def _space(match: re.Match[str]) -> str:
    """A space for punctuation; signs such as + and € stay."""
    return " " if unicodedata.category(match[0])[0] == "P" else match[0]


def question(placed: Placed) -> Question:
    """What makes two samples the same question."""
    context = (as_text(placed.sample.metadata.get(name)) or "" for name in _CONTEXT)
    return (normalise_input(placed.sample.input), *context)


def question_key(sample: Sample) -> str:
    """A short hash of what makes two samples the same question, for keeping."""
    content = json.dumps(question(Placed(sample, "")), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def split_problems(splits: Splits) -> list[Problem]:
    """Everything about the splits together that has to be put right before a number can be believed."""
    asked = {split: [(question(placed), placed.place) for placed in part] for split, part in splits.items()}
    return [
        *capped(_same_ids(splits)),
        *capped(_repeated(asked["test"])),
        *(problem for part, other in _PAIRS for problem in capped(_shared(asked, part, other))),
        *capped(_cut_groups(splits)),
    ]


_PAIRS: tuple[tuple[Split, Split], ...] = (("dev", "train"), ("test", "train"), ("test", "dev"))
_Asked = Sequence[tuple[Question, str]]
"""Questions and their places."""


def _same_ids(splits: Splits) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for placed in (placed for part in splits.values() for placed in part):
        before = first.setdefault(placed.sample.id, placed.place)
        if before != placed.place:
            what = f"id {placed.sample.id!r} is already at {before}."
            yield Problem(placed.place, what, "Give every sample its own id.")


def _repeated(asked: _Asked) -> Iterator[Problem]:
    first: dict[Question, str] = {}
    for key, place in asked:
        before = first.setdefault(key, place)
        if before != place:
            what = f"the input is already at {before}: a test must not ask twice."
            yield Problem(place, what, "Remove one of them.")


def _shared(asked: Mapping[Split, _Asked], part: Split, other: Split) -> Iterator[Problem]:
    seen: dict[Question, str] = {}
    for key, place in asked[other]:
        seen.setdefault(key, place)
    for key, place in asked[part]:
        if before := seen.get(key):
            what = f"the {part} input is also in {other}, at {before}: its score would prove nothing."
            yield Problem(place, what, "Remove one of them.")


def _cut_groups(splits: Splits) -> Iterator[Problem]:
    first: dict[str, tuple[Split, str]] = {}
    told: set[tuple[str, Split]] = set()
    for split, part in splits.items():
        for placed in part:
            group = placed.sample.group
            if group is None:
                continue
            home, before = first.setdefault(group, (split, placed.place))
            if home != split and (group, split) not in told:
                told.add((group, split))
                what = f"group {group!r} is in {split} here and in {home} at {before}."
                yield Problem(placed.place, what, "Keep a group within one split.")


def unseen(inputs: Sequence[Placed], splits: Splits) -> tuple[list[Placed], dict[str, int]]:
    """Inputs that no split holds, each once; and how many were left out, by the split that has them or `repeated`.

    An input that comes without context is the same as one of equal words with any context. Inputs of a group that dev
    or test holds are left out as well.
    """
    held = {split: _held(splits.get(split, ())) for split in ("test", "dev", "train")}
    groups = {split: {one.sample.group for one in splits.get(split, ())} - {None} for split in ("test", "dev")}
    kept: dict[Question, Placed] = {}
    left_out: dict[str, int] = {}
    for placed in inputs:
        asked = question(placed)
        words = asked if any(asked[1:]) else asked[:1]
        reason = next((split for split, seen in held.items() if words in seen), None) or next(
            (split for split, names in groups.items() if placed.sample.group in names), None
        )
        if reason is None and kept.setdefault(asked, placed) is not placed:
            reason = "repeated"
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
    return list(kept.values()), left_out


def _held(part: Sequence[Placed]) -> set[Question]:
    """The questions of a split, and their words alone."""
    asked = [question(placed) for placed in part]
    return {*asked, *(words[:1] for words in asked)}


def label_problems(splits: Splits, labels: Sequence[str]) -> list[Problem]:
    """Targets outside the closed answer set, each told once, at its first place."""
    known = frozenset(labels)
    outside: dict[str, list[str]] = {}
    for placed in (placed for part in splits.values() for placed in part):
        if placed.sample.target not in known:
            outside.setdefault(placed.sample.target, []).append(placed.place)
    return capped((_outside(target, places, labels) for target, places in outside.items()))


def _outside(target: str, places: Sequence[str], labels: Sequence[str]) -> Problem:
    near = difflib.get_close_matches(target.strip(), labels, n=1, cutoff=0.6)
    remedy = f"Did you mean {near[0]!r}?" if near else "Correct the target or add it to labels."
    rows = f" ({len(places)} rows)" if len(places) > 1 else ""
    return Problem(places[0], f"target {target!r} is not among labels{rows}.", remedy)


def without_repeats(
    samples: Sequence[Placed],
) -> tuple[list[Placed], list[tuple[str, str]], list[Problem]]:
    """Each question once, before a file is split: kept samples, (place, first place) of repeats, contradictions.

    A repeat with the same target is left out; one with another target is a problem, since one of the two is wrong.
    """
    first: dict[Question, Placed] = {}
    repeats: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for placed in samples:
        before = first.setdefault(question(placed), placed)
        if before is placed:
            continue
        if before.sample.target == placed.sample.target:
            repeats.append((placed.place, before.place))
        else:
            what = (
                f"the input is already at {before.place}, with target {before.sample.target!r} "
                f"in place of {placed.sample.target!r}."
            )
            problems.append(Problem(placed.place, what, "Correct or remove one of them."))
    return list(first.values()), repeats, capped(problems)
