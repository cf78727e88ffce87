"""Finds what would make a measurement lie: samples twice, test inputs seen in training, groups cut in two."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from backends.errors import Problem
from evals.data import Placed, as_text, capped
from evals.task import Split

_KEPT_BEFORE_DIGITS = frozenset("-.,")
_CONTEXT = ("choices", "context", "documents", "tools")
"""Fields that belong to the question: the same words with other tools are another question."""

Splits = Mapping[Split, Sequence[Placed]]


def normalise_input(text: str) -> str:
    """The form in which inputs are compared: NFKC, case folded, punctuation and runs of whitespace as one space.

    A minus, point or comma before a digit stays, since it makes another number; a text of nothing but punctuation
    stays as it is.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    following = [*text[1:], " "]
    kept = [
        " " if unicodedata.category(char)[0] == "P" and not (char in _KEPT_BEFORE_DIGITS and after.isdigit()) else char
        for char, after in zip(text, following, strict=True)
    ]
    return " ".join("".join(kept).split()) or " ".join(text.split())


def question(placed: Placed) -> tuple[str, ...]:
    """What makes two samples the same question."""
    context = (as_text(placed.sample.metadata.get(name)) or "" for name in _CONTEXT)
    return (normalise_input(placed.sample.input), *context)


def split_problems(splits: Splits) -> list[Problem]:
    """Everything about the splits together that has to be put right before a number can be believed."""
    return [
        *capped(_same_ids(splits)),
        *capped(_repeated(splits["test"])),
        *(problem for pair in _PAIRS for problem in capped(_shared(splits, *pair))),
        *capped(_cut_groups(splits)),
    ]


_PAIRS: tuple[tuple[Split, Split], ...] = (("dev", "train"), ("test", "train"), ("test", "dev"))


def _same_ids(splits: Splits) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for placed in (placed for part in splits.values() for placed in part):
        before = first.setdefault(placed.sample.id, placed.place)
        if before != placed.place:
            what = f"id {placed.sample.id!r} is already at {before}."
            yield Problem(placed.place, what, "Give every sample its own id.")


def _repeated(part: Sequence[Placed]) -> Iterator[Problem]:
    first: dict[tuple[str, ...], str] = {}
    for placed in part:
        before = first.setdefault(question(placed), placed.place)
        if before != placed.place:
            what = f"the input is already at {before}: a test must not ask twice."
            yield Problem(placed.place, what, "Remove one of them.")


def _shared(splits: Splits, part: Split, other: Split) -> Iterator[Problem]:
    seen: dict[tuple[str, ...], str] = {}
    for placed in splits[other]:
        seen.setdefault(question(placed), placed.place)
    for placed in splits[part]:
        if before := seen.get(question(placed)):
            what = f"the {part} input is also in {other}, at {before}: its score would prove nothing."
            yield Problem(placed.place, what, "Remove one of them.")


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


def label_problems(splits: Splits, labels: Sequence[str]) -> list[Problem]:
    """Targets outside the closed answer set, each told once, at its first place."""
    outside: dict[str, list[str]] = {}
    for placed in (placed for part in splits.values() for placed in part):
        if placed.sample.target not in labels:
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
    first: dict[tuple[str, ...], Placed] = {}
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
