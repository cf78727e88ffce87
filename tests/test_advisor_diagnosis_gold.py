"""What is handed over, what kind of answer is asked for, and which failures are looked at."""

from __future__ import annotations

from typing import Any

import pytest

from advisor.diagnosis.facts import AnswerKind, Library, answer_kind, answer_set
from advisor.diagnosis.failures import MOST, failures
from advisor.diagnosis.gold import gold_documents, gold_outputs, gold_steps, gold_tool_results
from backends.types import Usage
from evals.scorers.base import AnyScorer
from evals.scorers.numeric import Numeric
from evals.scorers.text import Exact
from evals.task import ChainStep, Document, Sample, Task
from evals.trial import Score, Trial

CHAIN = (ChainStep("first", "{input}"), ChainStep("second", "{first}"), ChainStep("third", "{second}"))


def task(**changes: Any) -> Task:
    train = (Sample("x", "who wrote it?", "Ann Smith"), Sample("y", "is it so?", "yes"))
    return Task("t", "Do.", train, (), (), **changes)


@pytest.mark.parametrize(
    ("steps", "chain", "given"),
    [
        (["5 + 5 = 10", "10 * 3 = 30"], (), ("5 + 5 = 10",)),
        (["so 30", "and 30"], (), ()),
        ([{"question": "Who?", "answer": "Ann"}, {"question": "Age?", "answer": "30"}], (), ("Who? Ann",)),
        ([{"answer": "Ann"}, {"answer": "Bob"}], CHAIN, ("Ann", "Bob")),
        ({"second": "b", "first": "a"}, CHAIN, ("a", "b")),
        ({"second": "b"}, CHAIN, ()),
        ({"first": "a", "third": "30"}, CHAIN, ("a",)),
        ({"x": "a", "y": "b"}, (), ("a", "b")),
        ([1, None, ""], (), ("1",)),
        ("no list", (), ()),
        (None, (), ()),
    ],
)
def test_steps_are_handed_over_up_to_the_one_that_states_the_answer(
    steps: Any, chain: tuple[ChainStep, ...], given: tuple[str, ...]
) -> None:
    assert gold_steps(Sample("s", "in", "30", {"steps": steps}), task(chain=chain)) == given


def test_outputs_of_steps_are_known_by_name_or_in_order() -> None:
    assert gold_outputs(Sample("s", "in", "30", {"steps": {"first": 1}})) == {"first": "1"}
    assert gold_outputs(Sample("s", "in", "30", {"steps": [{"answer": "a"}, "b"]})) == ["a", "b"]
    assert gold_outputs(Sample("s", "in", "30", {"steps": [{"said": "a"}, "b"]})) == ()
    assert gold_outputs(Sample("s", "in", "30")) == ()


def test_tool_results_are_a_list_of_texts() -> None:
    assert gold_tool_results(Sample("s", "in", "3", {"tool_results": ["a", {"b": 1}, None]})) == ("a", '{"b": 1}')
    assert gold_tool_results(Sample("s", "in", "3", {"tool_results": "a"})) == ()


def test_gold_documents_are_those_named_else_a_few_that_state_the_answer() -> None:
    named = Sample("s", "in", "3", {"supporting_doc_ids": ["a", "b"]})
    assert gold_documents(named, frozenset("abc"), ("c",)) == ("a", "b")
    assert gold_documents(named, frozenset("a"), ("c",)) == (), "an unknown document cannot be handed over"
    assert gold_documents(Sample("s", "in", "3"), frozenset("abc"), ("c",)) == ("c",)
    assert gold_documents(Sample("s", "in", "3"), frozenset("abcd"), tuple("abcd")) == ()


def test_documents_are_searched_for_whole_words_whatever_their_case() -> None:
    library = Library((Document("a", "It was New-York."), Document("b", "New Yorkers"), Document("c", "", "NEW YORK")))
    assert library.stating(["new york"]) == ("a", "c")
    assert library.stating(["paris", ""]) == ()
    assert library.stating(["Paris", "yorkers"]) == ("b",)


@pytest.mark.parametrize(
    ("target", "changes", "scorer", "kind"),
    [
        ("Oslo", {}, Exact(), "fact"),
        ("Oslo", {"labels": ("Oslo", "Rome")}, Exact(), "learnable"),
        ("Oslo", {"output_schema": "{}"}, Exact(), "learnable"),
        ("Yes.", {}, Exact(), "learnable"),
        ('{"a": 1}', {}, Exact(), "learnable"),
        ("the colour of the sky", {}, Exact(), "learnable"),
        ("42", {}, Numeric(), "number"),
        ("42", {"labels": ("42", "43")}, Numeric(), "learnable"),
        ("one two three four five six seven eight nine", {}, Exact(), "open"),
    ],
)
def test_the_form_of_the_target_tells_what_kind_of_answer_is_asked_for(
    target: str, changes: dict[str, Any], scorer: AnyScorer, kind: AnswerKind
) -> None:
    assert answer_kind(Sample("s", "uhm what is the colour of no the sky?", target), task(**changes), scorer) == kind


def test_few_train_targets_are_a_closed_set_and_many_are_not() -> None:
    closed = Task("t", "", tuple(Sample(str(n), f"{n}", ("Yes", "no", "yes")[n % 3]) for n in range(12)), (), ())
    assert answer_set(closed) == ("Yes", "no")
    assert answer_set(Task("t", "", tuple(Sample(str(n), f"{n}", str(n)) for n in range(12)), (), ())) == ()
    assert answer_set(task(labels=("a", "b"))) == ("a", "b")


def trial(number: int, score: float | None, **changes: Any) -> Trial:
    found = None if score is None else Score(score)
    error = "refused" if score is None else None
    return Trial("c", changes.pop("split", "test"), f"s{number}", "out", found, error, Usage(), 0.0, **changes)


def test_failures_are_errors_and_scores_below_the_threshold_of_the_trials_that_count() -> None:
    samples = [Sample(f"s{number}", "in", "t") for number in range(6)]
    trials = [
        trial(0, 1.0),
        trial(1, 0.7),
        trial(2, 0.69),
        trial(3, None),
        trial(4, 0.0, variant="fresh"),
        trial(5, 0.0, split="dev"),
    ]
    found = failures(trials, samples, 0.7, seed=1)
    assert [failure.sample.id for failure in found.looked_at] == ["s2", "s3"]
    assert [failure.sample.id for failure in found.wrong] == ["s2"]


def test_more_failures_than_are_looked_at_are_drawn_by_the_seed_in_their_order() -> None:
    samples = [Sample(f"s{number}", "in", "t") for number in range(100)]
    drawn = [failures([trial(n, 0.0) for n in range(100)], samples, 1.0, seed) for seed in (1, 1, 2)]
    numbers = [[int(failure.sample.id[1:]) for failure in found.looked_at] for found in drawn]
    assert drawn[0].n == 100
    assert len(numbers[0]) == len(set(numbers[0])) == MOST
    assert numbers[0] == sorted(numbers[0])
    assert numbers[0] == numbers[1] != numbers[2]
