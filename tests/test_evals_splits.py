"""Splitting is a seeded, stratified partition; what would make a measurement lie is found, with both places."""

from __future__ import annotations

import itertools
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.data import Placed
from evals.leakage import label_problems, normalise_input, split_problems, without_repeats
from evals.splits import shuffled_prefix, split_indices
from evals.task import Sample, Split

FRACTIONS = (0.5, 0.2, 0.3)


def samples(targets: Sequence[str], groups: Sequence[str | None] | None = None) -> list[Sample]:
    groups = groups or [None] * len(targets)
    return [
        Sample(str(number), f"input {number}", target, group=group)
        for number, (target, group) in enumerate(zip(targets, groups, strict=True))
    ]


targets = st.lists(st.sampled_from("aaaabbcd"), min_size=1, max_size=80)
fractions = st.tuples(*[st.floats(0.05, 1)] * 3)


@given(targets, fractions, st.integers(0, 5), st.booleans())
def test_a_split_is_a_partition_stratified_within_one(
    labels: list[str], shares: tuple[float, ...], seed: int, stratify: bool
) -> None:
    parts = split_indices(samples(labels), shares, seed, stratify)
    assert sorted(itertools.chain(*parts)) == list(range(len(labels)))
    for part, share in zip(parts, shares, strict=True):
        assert list(part) == sorted(part)
        counts = Counter(labels[index] for index in part)
        for label, n in Counter(labels).items() if stratify else ():
            assert abs(counts[label] - n * share / sum(shares)) < 1 + 1e-6
        assert abs(len(part) - len(labels) * share / sum(shares)) < 2


@given(targets, st.integers(0, 3))
def test_a_group_is_never_cut(labels: list[str], seed: int) -> None:
    groups = [None if number % 7 == 0 else f"g{number * number % 11}" for number in range(len(labels))]
    parts = split_indices(samples(labels, groups), FRACTIONS, seed, stratify=True)
    assert sorted(itertools.chain(*parts)) == list(range(len(labels)))
    homes = [{groups[index] for index in part} - {None} for part in parts]
    assert not homes[0] & homes[1] | homes[0] & homes[2] | homes[1] & homes[2]


def test_grouped_parts_have_about_their_share() -> None:
    parts = split_indices(samples(["a"] * 300, [f"g{n // 3}" for n in range(300)]), FRACTIONS, 1, stratify=False)
    assert [len(part) for part in parts] == [150, 60, 90]


def test_many_small_classes_still_give_parts_of_the_right_size() -> None:
    parts = split_indices(samples([str(n // 3) for n in range(231)]), FRACTIONS, 1, stratify=True)
    for part, share in zip(parts, FRACTIONS, strict=True):
        assert abs(len(part) - 231 * share) < 2


def test_the_split_depends_on_the_seed_alone() -> None:
    rows = samples(["a", "b"] * 50)
    again = split_indices(rows, FRACTIONS, 1, stratify=True)
    assert split_indices(rows, FRACTIONS, 1, stratify=True) == again
    assert split_indices(rows, FRACTIONS, 2, stratify=True) != again


@given(targets, st.integers(0, 3), st.integers(1, 90), st.booleans())
def test_a_longer_prefix_holds_the_shorter(labels: list[str], seed: int, count: int, stratify: bool) -> None:
    rows = samples(labels)
    longer, shorter = (shuffled_prefix(rows, n, seed, stratify) for n in (count, count - 1))
    assert longer[: len(shorter)] == shorter
    assert len({sample.id for sample in longer}) == len(longer) == min(count, len(labels))


def test_every_prefix_holds_its_share_of_every_class() -> None:
    rows = samples(["a"] * 40 + ["b"] * 40 + ["c"] * 40)
    for count in range(1, 121):
        held = Counter(sample.target for sample in shuffled_prefix(rows, count, 3, stratify=True))
        assert max(held.values()) - min(held[label] for label in "abc") <= 1


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Where is my card?", "  where is MY card ", True),
        ("ｗｈｅｒｅ is my card", "Where is my card", True),
        ("Where  is\nmy card", "Where is my card", True),
        ("Straße", "STRASSE", True),
        ("well-known", "well known", True),
        ("what is -5 squared", "what is 5 squared", False),
        ("costs 1.5", "costs 15", False),
        ("a + b", "a * b", False),
        ("???", "!!!", False),
        ("cancel my card", "cancel my cards", False),
    ],
)
def test_inputs_are_the_same_whatever_their_case_spaces_and_punctuation(left: str, right: str, same: bool) -> None:
    assert (normalise_input(left) == normalise_input(right)) is same


@given(st.text(string.printable + "éßＡ①½ ﬁ«»…–", max_size=40))
def test_normalising_an_input_twice_changes_nothing(text: str) -> None:
    assert normalise_input(normalise_input(text)) == normalise_input(text)


def placed(split: str, *rows: tuple[str, str] | dict[str, Any]) -> list[Placed]:
    found = []
    for line, row in enumerate(rows, start=1):
        fields = {"input": row[0], "target": row[1]} if isinstance(row, tuple) else row
        sample = Sample(**{"id": f"{split}-{line}", "target": "t", **fields})
        found.append(Placed(sample, f"{split}.jsonl:{line}"))
    return found


def splits(train: list[Placed], dev: list[Placed], test: list[Placed]) -> dict[Split, list[Placed]]:
    return {"train": train, "dev": dev, "test": test}


TRAIN = placed("train", ("one", "a"), ("two", "b"))
DEV = placed("dev", ("three", "a"))
TEST = placed("test", ("four", "a"), ("five", "b"))


def test_clean_splits_have_no_problems() -> None:
    assert split_problems(splits(TRAIN, DEV, TEST)) == []


@pytest.mark.parametrize(
    ("broken", "where", "what", "other"),
    [
        ({"test": placed("test", {"input": "x", "id": "train-1"})}, "test.jsonl:1", "id 'train-1'", "train.jsonl:1"),
        ({"test": placed("test", ("x", "a"), ("X!", "a"))}, "test.jsonl:2", "must not ask twice", "test.jsonl:1"),
        ({"test": placed("test", ("Two.", "b"))}, "test.jsonl:1", "also in train", "train.jsonl:2"),
        ({"dev": placed("dev", ("ONE", "b"))}, "dev.jsonl:1", "also in train", "train.jsonl:1"),
        ({"test": placed("test", ("three?", "b"))}, "test.jsonl:1", "also in dev", "dev.jsonl:1"),
        (
            {
                "train": placed("train", {"input": "one", "group": "g"}),
                "test": placed("test", {"input": "x", "group": "g"}, {"input": "y", "group": "g"}),
            },
            "test.jsonl:1",
            "group 'g' is in test here and in train",
            "train.jsonl:1",
        ),
    ],
)
def test_leaks_name_both_places(broken: dict[Split, list[Placed]], where: str, what: str, other: str) -> None:
    (problem,) = split_problems({**splits(TRAIN, DEV, TEST), **broken})
    assert problem.where == where
    assert what in problem.what
    assert other in problem.what
    assert problem.remedy


def test_the_same_words_with_other_tools_are_another_question() -> None:
    test = placed(
        "test",
        {"input": "x", "metadata": {"tools": ["a"], "source": 1}},
        {"input": "x", "metadata": {"tools": ["b"], "source": 2}},
        {"input": "x", "metadata": {"tools": ["b"], "source": 3}},
    )
    (problem,) = split_problems(splits(TRAIN, DEV, test))
    assert problem.where == "test.jsonl:3"


def test_a_flood_of_leaks_is_cut_short() -> None:
    many = [(f"same {number}", "a") for number in range(50)]
    problems = split_problems(splits(placed("train", *many), DEV, placed("test", *many)))
    assert len(problems) == 21
    assert problems[-1].where == "test.jsonl:21"
    assert "30 more" in problems[-1].what


def test_a_label_outside_the_set_is_told_once_with_the_nearest() -> None:
    test = placed("test", ("x", "refnd"), ("y", "refnd"), ("z", "zzz"))
    near, far = label_problems(splits([], [], test), ["refund", "card"])
    assert near.where == "test.jsonl:1"
    assert "'refnd' is not among labels (2 rows)" in near.what
    assert "Did you mean 'refund'?" in near.remedy
    assert far.where == "test.jsonl:3"
    assert "add it to labels" in far.remedy


def test_repeats_are_left_out_before_a_split_and_contradictions_are_problems() -> None:
    rows = placed("all", ("x", "a"), ("X", "a"), ("y", "a"), ("y!", "b"))
    kept, repeats, (problem,) = without_repeats(rows)
    assert [one.place for one in kept] == ["all.jsonl:1", "all.jsonl:3"]
    assert repeats == [("all.jsonl:2", "all.jsonl:1")]
    assert problem.where == "all.jsonl:4"
    assert "all.jsonl:3, with target 'a' in place of 'b'" in problem.what
