"""What the targets and columns of a table are taken for."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest

from advisor.starting.answers import understand
from advisor.starting.columns import Roles, Wishes, choose
from advisor.starting.draft import Example
from advisor.starting.near import near_pairs
from advisor.starting.schemas import schema_of
from advisor.starting.splitting import SHARES, Parts, divide
from backends.errors import InputError
from evals.data import Row


def examples(targets: list[str], **more: Any) -> list[Example]:
    return [Example(f"question {i} of many", target, f"a.csv:{i}", **more) for i, target in enumerate(targets, start=1)]


def scorer(targets: list[str]) -> Any:
    return understand(examples(targets), known=True).measure.scorer


NUMBERS = [str(round(i * 7.31, 1)) for i in range(60)]
CALLS = [json.dumps([{"name": "weather", "arguments": {"town": f"town {i}"}}]) for i in range(20)]
OBJECTS = [json.dumps({"intent": "ab"[i % 2], "city": f"town {i}"}) for i in range(20)]
QUERIES = [f"SELECT name FROM people WHERE age = {i}" for i in range(20)]
SPANS = [f"the {i}th house" for i in range(20)]
TEXTS = [
    f"Thank you for message {i}. " + "We have looked into it and will come back to you soon. " * 2 for i in range(20)
]
CHINESE = ["我们收到了您的来信，会尽快回复您。" * 2 + str(i) for i in range(20)]


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [
        (["yes", "no"] * 20, "exact"),
        (NUMBERS, "numeric"),
        (["$1,200.50", "12%", "-3"] * 3, "numeric"),
        ([str(i % 5) for i in range(60)], "exact"),
        (CALLS, "tool_calls"),
        (OBJECTS, "json_fields"),
        (QUERIES, "sql_logical_form"),
        (SPANS, "token_f1"),
        (TEXTS, "rouge_l"),
        ([f"select {i} apples" for i in range(20)], "token_f1"),
        (["!", "?", "..."] * 2, "exact"),
    ],
)
def test_the_scorer_follows_from_the_targets(targets: list[str], wanted: str) -> None:
    assert scorer(targets) == wanted


def test_texts_in_other_scripts_are_compared_by_characters() -> None:
    long = [" ".join(text) for text in CHINESE]
    assert scorer(long) == "chrf"


def test_ratings_are_labels_and_quantities_are_numbers() -> None:
    assert understand(examples([str(1 + i % 5) for i in range(100)]), known=True).labels == ("1", "2", "3", "4", "5")
    assert understand(examples([str(i % 60) for i in range(120)]), known=True).labels == ()


def test_a_label_that_occurs_once_opens_the_set() -> None:
    assert understand(examples(["a", "b"] * 20 + ["c"]), known=True).labels == ()


def test_labels_that_differ_in_case_only_are_no_closed_set() -> None:
    assert understand(examples(["Yes", "yes", "no"] * 20), known=True).labels == ()


def test_a_lopsided_task_gets_a_target_above_the_commonest_answer() -> None:
    found = understand(examples(["no"] * 90 + ["yes"] * 10), known=True)
    assert found.target == 0.95
    assert "always answering 'no' would score 0.90" in {guess.what: guess.why for guess in found.guesses}["balance"]


def test_a_long_text_is_guessed_with_a_word_about_judges() -> None:
    (guess,) = understand(examples(TEXTS), known=True).guesses
    assert "judge" in guess.check


def test_where_targets_are_no_answers_nothing_is_read_from_them() -> None:
    assert understand(examples(["yes", "no"] * 20), known=False).labels == ()


# -- schemas ----------------------------------------------------------------------------------------------------------


def test_a_schema_follows_from_the_values_and_says_no_more() -> None:
    values = [
        {"n": i if i % 2 else i / 2, "kind": "ab"[i % 2], "tags": ["x"], **({"who": None} if i else {})}
        for i in range(20)
    ]
    schema = schema_of(values)
    for value in values:
        jsonschema.validate(value, schema)
    assert schema["required"] == ["n", "kind", "tags"]
    assert schema["properties"]["n"] == {"type": "number"}
    assert schema["properties"]["kind"]["enum"] == ["a", "b"]
    assert schema["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"n": 1, "kind": "c", "tags": []}, schema)


def test_mixed_and_keyed_values_stay_open() -> None:
    assert schema_of([1, "a"])["type"] == ["integer", "string"]
    assert schema_of([{f"k{i}": 1 for i in range(100)}]) == {"type": "object"}
    assert schema_of([True, False]) == {"type": "boolean"}


# -- columns ----------------------------------------------------------------------------------------------------------


def roles(header: list[str], rows: list[tuple[Any, ...]]) -> Roles:
    table = [Row(number, dict(zip(header, row, strict=True))) for number, row in enumerate(rows, start=2)]
    return choose(table, "a.csv", Wishes())[0]


def test_names_decide_before_content() -> None:
    rows = [
        (i, f"a longer text {i} with words", "yes" if i % 2 else "no", f"short {i}", f"doc {i % 10}") for i in range(40)
    ]
    found = roles(["ticket_id", "notes", "Label", "Question", "doc"], rows)
    assert (found.input, found.target, found.id, found.group) == (("Question",), "Label", "ticket_id", "doc")


def test_without_names_the_longest_text_is_asked_and_the_fewest_values_answer() -> None:
    rows = [(f"K{i}", f"a longer text {i} with words", ["red", "blue"][i % 2], f"short {i}") for i in range(40)]
    found = roles(["c0", "c1", "c2", "c3"], rows)
    assert (found.input, found.target, found.id) == (("c1",), "c2", None)


def test_a_column_of_splits_is_found_by_what_it_says() -> None:
    rows = [(f"text {i} of many", "ab"[i % 2], ["train", "Validation", "test"][i % 3]) for i in range(30)]
    assert roles(["text", "label", "split"], rows).split == "split"
    rows = [(f"text {i} of many", "ab"[i % 2], ["x", "y", "z"][i % 3]) for i in range(30)]
    assert roles(["text", "label", "split"], rows).split is None


def test_columns_that_belong_together_are_asked_together() -> None:
    rows = [(f"passage {i}", f"why {i}?", f"because {i}") for i in range(10)]
    assert roles(["context", "question", "answer"], rows).input == ("context", "question")


def test_an_id_that_repeats_is_none() -> None:
    rows = [(1, f"text {i} of many", "ab"[i % 2]) for i in range(10)]
    assert roles(["id", "text", "label"], rows).id is None


# -- splits -----------------------------------------------------------------------------------------------------------


def ids(parts: Parts) -> dict[str, set[str | None]]:
    return {split: {example.id for example in part} for split, part in parts.items()}


def test_the_cut_is_seeded_stratified_and_complete() -> None:
    found = examples(["a"] * 60 + ["b"] * 40)
    parts = divide(found, "a.csv", stratify=True)
    assert ids(parts) == ids(divide(found, "a.csv", stratify=True))
    assert sum(len(part) for _, part in parts.items()) == 100
    for split, part in parts.items():
        assert sum(one.target == "a" for one in part) == pytest.approx(60 * SHARES[split], abs=1)


def test_repeats_go_once_and_contradictions_go_altogether() -> None:
    found = [
        *examples(["a", "b"] * 10),
        Example("question 1 of many", "a", "a.csv:30"),
        Example("Question 2, of many!", "z", "a.csv:31"),
    ]
    parts = divide(found, "a.csv", stratify=False)
    everything = {example.input for _, part in parts.items() for example in part}
    assert len(everything) == 19
    assert "question 2 of many" not in everything
    assert "1 row whose input another row has already, the first at a.csv:30" in parts.lost[0]
    assert "2 rows with the input of another row but a different target, the first at a.csv:2" in parts.lost[1]


def test_groups_stay_whole() -> None:
    found = [Example(f"question {i} of many", "a", f"a:{i}", group=f"g{i % 20}") for i in range(200)]
    parts = divide(found, "a.csv", stratify=False)
    groups = [{example.group for example in part} for _, part in parts.items()]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_groups_that_the_sources_splits_cut_are_dropped_and_told() -> None:
    found = [
        Example(f"question {i} of many", "a", f"a:{i}", group=f"g{i % 7}", split="train" if i < 30 else "test")
        for i in range(60)
    ]
    parts = divide(found, "a.csv", stratify=False)
    assert all(example.group is None for _, part in parts.items() for example in part)
    assert "cut 7 groups in two" in parts.lost[0]


def test_a_split_that_the_source_lacks_is_cut_from_train() -> None:
    found = examples(["a"] * 40, split="train") + [
        Example(f"other {i} thing", "a", f"b:{i}", split="test") for i in range(20)
    ]
    parts = divide(found, "a.csv", stratify=False)
    assert len(parts.test) == 20
    assert len(parts.dev) == 10
    assert all(example.place.startswith("a.csv") for example in parts.dev)


def test_an_input_in_two_of_the_sources_splits_stays_in_test() -> None:
    found = [*examples(["a"] * 20, split="train"), Example("question 3 of many", "a", "b:1", split="test")]
    parts = divide(found, "a.csv", stratify=False)
    assert [example.place for example in parts.test] == ["b:1"]


@pytest.mark.parametrize("number", [3, 4, 5, 7])
def test_a_handful_of_rows_fills_every_split(number: int) -> None:
    parts = divide(examples([str(i) for i in range(number)]), "a.csv", stratify=True)
    assert all(part for _, part in parts.items())


def test_two_groups_cannot_fill_three_splits() -> None:
    found = [Example(f"question {i} of many", "a", f"a:{i}", group=f"g{i % 2}") for i in range(20)]
    with pytest.raises(InputError, match="no example is left"):
        divide(found, "a.csv", stratify=False)


def test_near_repeats_across_splits_are_told() -> None:
    words = [f"word{i}" for i in range(30)]
    rng = random.Random(2)
    texts = [" ".join(rng.sample(words, 12)) + f" unlike{i} apart{i} alone{i}" for i in range(40)]
    found = [Example(text, "a", f"a:{i}", split="train" if i % 2 else "test") for i, text in enumerate(texts)]
    near = Example(f"{texts[0]} indeed", "a", "a:99", split="train")
    parts = divide([*found, near], "a.csv", stratify=False)
    (guess,) = [guess for guess in parts.guesses if guess.what == "near duplicates"]
    assert guess.value == "1 test input nearly repeated in train or dev"
    assert "a:99" in guess.why
    without = divide(found, "a.csv", stratify=False)
    assert not [guess for guess in without.guesses if guess.what == "near duplicates"]


def test_pairs_that_are_nearly_the_same_are_exactly_those_that_a_comparison_of_all_finds() -> None:
    rng = random.Random(3)
    words = [f"w{i}" for i in range(25)]
    texts = [" ".join(rng.sample(words, rng.randint(8, 20))) for _ in range(250)]
    sets = [set(text.split()) for text in texts]
    wanted = [
        (i, j) for j in range(len(texts)) for i in range(j) if len(sets[i] & sets[j]) >= 0.9 * len(sets[i] | sets[j])
    ]
    assert wanted
    assert sorted(near_pairs(texts)) == sorted(wanted)
