"""Divides examples into train, dev and test; what would make the figures lie is left out, and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from advisor.starting.draft import Example, Guess, refuse
from advisor.starting.near import near_pairs
from backends.wording import counted
from evals.data import Placed
from evals.leakage import Question, question
from evals.splits import split_indices
from evals.task import Split

SHARES: Mapping[Split, float] = {"train": 0.45, "dev": 0.15, "test": 0.40}
"""Test is large because it decides: an interval of 5 points takes some 200 samples."""
SEED = 1
FEWEST = 3
"""Rows: one for each split."""
_ORDER: tuple[Split, ...] = ("test", "dev", "train")
"""Of two equal questions in two splits, the one in the earlier of these is kept."""


@dataclass(frozen=True)
class Parts:
    """The examples of each split, with ids."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    guesses: tuple[Guess, ...]
    lost: tuple[str, ...]

    def items(self) -> Iterator[tuple[Split, tuple[Example, ...]]]:
        """Each split with its examples."""
        yield from (("train", self.train), ("dev", self.dev), ("test", self.test))


def divide(examples: Sequence[Example], where: str, stratify: bool) -> Parts:
    """Cut the examples as the source says, and where it does not, by a seed. Raises InputError for too few."""
    whole = [example for example in examples if example.input.strip() and example.target.strip()]
    kept, lost = _without_repeats(whole)
    if len(whole) < len(examples):
        lost.append(f"{counted(len(examples) - len(whole), 'row')} without an input or a target.")
    if len(kept) < FEWEST:
        what = f"{counted(len(kept), 'different example')} cannot be divided into train, dev and test."
        raise refuse(where, what, "Give at least 3; a verdict on a target takes about 100 or more.")
    kept = _with_ids(kept)
    given = {example.split for example in kept} - {None}
    if given and (cut := _cut_groups(kept)):
        kept = [replace(example, group=None) for example in kept]
        lost.append(f"the groups: the source's own splits cut {counted(cut, 'group')} in two, so they say nothing.")
    parts = _as_given(kept, stratify) if given else _cut(kept, tuple(SHARES), stratify)
    empty = [split for split, part in parts.items() if not part]
    if empty:
        what = f"no example is left for {' and '.join(empty)}."
        raise refuse(where, what, "Give more examples, or more groups.")
    guesses = [_told(parts, bool(given), stratify), *_near(parts)]
    train, dev, test = (tuple(replace(one, split=split) for one in parts[split]) for split in SHARES)
    return Parts(train, dev, test, tuple(guesses), tuple(lost))


def _key(example: Example) -> Question:
    return question(Placed(example.sample(), example.place))


def _without_repeats(examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """Each question once: repeats are left out, and all examples of a question with two different targets."""
    targets: dict[Question, set[str]] = {}
    for example in examples:
        targets.setdefault(_key(example), set()).add(example.target)
    in_order = sorted(examples, key=lambda one: _ORDER.index(one.split) if one.split else 0)
    kept: dict[Question, Example] = {}
    repeats: list[str] = []
    against: list[str] = []
    for example in in_order:
        key = _key(example)
        if len(targets[key]) > 1:
            against.append(example.place)
        elif key in kept:
            repeats.append(example.place)
        else:
            kept[key] = example
    chosen = {id(example) for example in kept.values()}
    lost = []
    if repeats:
        lost.append(f"{counted(len(repeats), 'row')} whose input another row has already, the first at {repeats[0]}.")
    if against:
        lost.append(
            f"{counted(len(against), 'row')} with the input of another row but a different target, the first at "
            f"{against[0]}: one of the two is wrong."
        )
    return [example for example in examples if id(example) in chosen], lost


def _with_ids(examples: Sequence[Example]) -> list[Example]:
    """The source's ids where every example has its own, else a number each."""
    ids = [example.id for example in examples]
    if None not in ids and len(set(ids)) == len(ids):
        return list(examples)
    width = len(str(len(examples)))
    return [replace(example, id=f"{number:0{width}d}") for number, example in enumerate(examples, start=1)]


def _cut_groups(examples: Sequence[Example]) -> int:
    """Groups that the source's own splits have in more than one part."""
    splits: dict[str, set[Split | None]] = {}
    for example in examples:
        if example.group is not None:
            splits.setdefault(example.group, set()).add(example.split)
    return sum(len(found) > 1 for found in splits.values())


def _cut(examples: Sequence[Example], splits: tuple[Split, ...], stratify: bool) -> dict[Split, list[Example]]:
    """By the seed; groups stay whole, and every label keeps its share."""
    samples = [example.sample() for example in examples]
    indices = split_indices(samples, [SHARES[split] for split in splits], SEED, stratify)
    parts: dict[Split, list[Example]] = {split: [] for split in SHARES}
    for split, part in zip(splits, indices, strict=True):
        parts[split] = [examples[index] for index in part]
    return _none_empty(parts, splits) if not any(sample.group for sample in samples) else parts


def _none_empty(parts: dict[Split, list[Example]], splits: tuple[Split, ...]) -> dict[Split, list[Example]]:
    """With a handful of examples rounding can leave a split empty; the largest one gives it an example."""
    for split in splits:
        largest = max(splits, key=lambda one: len(parts[one]))
        if not parts[split] and len(parts[largest]) > 1:
            parts[split] = [parts[largest].pop()]
    return parts


def _as_given(examples: Sequence[Example], stratify: bool) -> dict[Split, list[Example]]:
    """The source's splits; one that it lacks is cut from its train examples, and so are examples without a split."""
    given = {split: [one for one in examples if one.split == split] for split in SHARES}
    missing = tuple(split for split in SHARES if not given[split])
    open_ones = [one for one in examples if one.split is None]
    source: Split = "train" if given["train"] else max(SHARES, key=lambda split: len(given[split]))
    if missing and not open_ones:
        cut = _cut(given[source], tuple(split for split in SHARES if split in (source, *missing)), stratify)
        return {split: cut[split] or given[split] for split in SHARES}
    cut = _cut(open_ones, missing or ("train",), stratify) if open_ones else {split: [] for split in SHARES}
    return {split: given[split] + cut[split] for split in SHARES}


def _told(parts: Mapping[Split, Sequence[Example]], given: bool, stratify: bool) -> Guess:
    value = ", ".join(f"{len(parts[split])} {split}" for split in SHARES)
    grouped = any(example.group for part in parts.values() for example in part)
    how = "groups whole" if grouped else "every label in its share" if stratify else "at random"
    why = "as the source says" if given else f"cut by seed {SEED}, {how}"
    check = "Only `test` decides; nothing else may look at it, and it should look like next month's requests."
    return Guess("data", value, why, check)


def _near(parts: Mapping[Split, Sequence[Example]]) -> list[Guess]:
    """A warning about inputs in test that are nearly in train or dev."""
    everything = [(split, example) for split in SHARES for example in parts[split]]
    pairs = near_pairs([example.input for _, example in everything])
    across = [(first, second) for first, second in pairs if _across(everything[first][0], everything[second][0])]
    if not across:
        return []
    (_, first), (_, second) = (everything[position] for position in across[0])
    tests = {place for pair in across for place in pair if everything[place][0] == "test"}
    value = f"{counted(len(tests), 'test input')} nearly repeated in train or dev"
    why = f"nine of ten words are the same, for instance at {first.place} and {second.place}"
    check = "Were they written from one another? Then give both the same `group`, and the split must be made again."
    return [Guess("near duplicates", value, why, check)]


def _across(first: Split, second: Split) -> bool:
    return first != second and "test" in (first, second)
