"""Every scorer as a table of answers, and what all of them keep to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import InputError
from evals.scorers import SCORERS, ModelScorer, ScorerError, make_scorer, right_answer
from evals.scorers.numeric import last_number
from evals.scorers.text import normalise
from evals.task import Sample
from evals.trial import Score

HERE = Path()


def score(spec: Any, output: str, target: str, **metadata: Any) -> Score:
    return make_scorer(spec, HERE)(output, Sample("s1", "question", target, metadata))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  Yes.\n", "yes"),
        ('"Yes."', "yes"),
        ('"Yes".', "yes"),
        ("`card_lost`", "card_lost"),
        ("“Ja”", "ja"),
        ("a  b\tc", "a b c"),
        ("Ｙｅｓ", "yes"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("wait...", "wait..."),
        ("it's", "it's"),
        ("'", "'"),
        (".", ""),
        ("Yes!", "yes!"),
    ],
)
def test_answers_are_compared_in_a_plain_form(text: str, plain: str) -> None:
    assert normalise(text) == plain


@given(st.text(max_size=30) | st.text(" .\"'`aAﬁ", max_size=12), st.booleans())
def test_normalising_an_answer_twice_changes_nothing(text: str, case_sensitive: bool) -> None:
    once = normalise(text, case_sensitive)
    assert normalise(once, case_sensitive) == once


NEAR = {"name": "numeric", "tolerance": 0.01}
SHARE = {"name": "numeric", "relative_tolerance": 0.1}
STRICT = {"name": "json_fields", "strict": True}


@pytest.mark.parametrize(
    ("spec", "output", "target", "value"),
    [
        ("exact", "Card lost.", "card LOST", 1),
        ("exact", "the card is lost", "card lost", 0),
        ("exact", "", "card", 0),
        ({"name": "exact", "case_sensitive": True}, "Yes.", "Yes", 1),
        ({"name": "exact", "case_sensitive": True}, "yes", "Yes", 0),
        ("includes", "I think it is Paris, France.", "paris", 1),
        ("includes", "concatenate", "cat", 0),
        ("includes", "(a+b) is C++", "c++", 1),
        ({"name": "includes", "whole_words": False}, "concatenate", "cat", 1),
        ({"name": "includes", "case_sensitive": True}, "paris", "Paris", 0),
        ("token_f1", "the Eiffel Tower!", "Eiffel tower", 1),
        ("token_f1", "tower of London", "Eiffel tower", 0.4),
        ("token_f1", "London", "Eiffel tower", 0),
        ("token_f1", "the", "a", 1),
        ("token_f1", "", "tower", 0),
        ("numeric", "So the answer is 1,234.50.", "1234.5", 1),
        ("numeric", "3 apples, then 7", "7", 1),
        ("numeric", "7 apples, then 3", "7", 0),
        ("numeric", "no idea", "7", 0),
        ("numeric", "3/4", "0.75", 1),
        ("numeric", "1 3/4 cups", "1.75", 1),
        ("numeric", "2½", "2.5", 1),
        ("numeric", "0.333", "1/3", 0),
        ("numeric", "50%", "50", 1),
        ("numeric", "50%", "0.5", 1),
        ("numeric", "0.5", "50%", 1),
        ("numeric", "5%", "50%", 0),
        ("numeric", "-7", "7", 0),
        ("numeric", "$5", "5", 1),
        (NEAR, "3.14", "3.15", 1),
        (NEAR, "3.14", "3.16", 0),
        (SHARE, "110", "100", 1),
        (SHARE, "111", "100", 0),
        ("json_fields", '{"a": 1, "b": "X"}', '{"a": 1, "b": "x"}', 1),
        ("json_fields", '```json\n{"a": 1}\n```', '{"a": 1}', 1),
        ("json_fields", '{"a": 1.0, "b": 2}', '{"a": 1, "b": 3}', 0.5),
        ("json_fields", '{"a": 1, "made_up": 2}', '{"a": 1}', 0.5),
        ("json_fields", '{"a": {"b": 1, "c": 2}}', '{"a": {"b": 1, "c": 3}}', 0.5),
        ("json_fields", '{"a": true}', '{"a": 1}', 0),
        ("json_fields", "{}", "{}", 1),
        ("json_fields", "[]", "{}", 0),
        ("json_fields", '[{"n": "f"}]', '[{"n": "f"}, {"n": "g"}]', 0.5),
        ("json_fields", 'Sure: {"a": 1}', '{"a": 1}', 0),
        ("json_fields", "[" * 100_000, '{"a": 1}', 0),
        ("json_fields", '{"a": 9' + "9" * 5000 + "}", '{"a": 1}', 0),
        (STRICT, '{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 0),
        (STRICT, '{"b": 2, "a": 1}', '{"a": 1, "b": 2}', 1),
        ({"name": "json_fields", "fields": ["a.b", "c"]}, '{"a": {"b": 1}, "d": 1}', '{"a": {"b": 1}, "c": 2}', 0.5),
        ({"name": "json_fields", "fields": ["a"]}, '{"a": {"b": [1]}}', '{"a": {"b": [1]}}', 1),
        ({"name": "json_fields", "fields": ["a"]}, "{}", "{}", 1),
        ({"name": "json_fields", "case_sensitive": True}, '{"a": "X"}', '{"a": "x"}', 0),
    ],
)
def test_answers_score_as_the_table_says(spec: Any, output: str, target: str, value: float) -> None:
    found = score(spec, output, target)
    assert found.value == pytest.approx(value)
    assert found.reason
    assert "\n" not in found.reason


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1\u00a0234", 1234),
        ("1 234", 234),
        ("10-5", 5),
        ("covid-19", 19),
        ("10/12/2024", 2024),
        ("2e-4", 0.0002),
        ("−7 °C", -7),
        ("-$5", -5),
        ("$-5", -5),
        ("x²", None),
        ("1/0", None),
        (".5", 0.5),
        ("3,4,5", 5),
        ("1,234,567", 1_234_567),
        ("9" * 5000, None),
        ("twelve", None),
    ],
)
def test_the_last_number_of_a_text(text: str, number: float | None) -> None:
    found = last_number(text)
    assert (None if found is None else float(found.value)) == number


@pytest.mark.parametrize("name", ["exact", "includes", "token_f1"])
def test_further_right_answers_come_from_the_data(name: str) -> None:
    spec = {"name": name, "references": "answers"}
    assert score(spec, "Stanley Hall", "G. S. Hall", answers=["Stanley Hall"]).value == 1
    assert score(spec, "G. S. Hall", "G. S. Hall", answers="Stanley Hall").value == 1
    assert score(spec, "nobody", "G. S. Hall", answers=None).value < 1
    with pytest.raises(ScorerError, match="must be a list of texts"):
        score(spec, "x", "y", answers=[1])
    with pytest.raises(ScorerError, match="no field 'answers'"):
        score(spec, "x", "y")


@pytest.mark.parametrize(
    ("spec", "target", "message"),
    [
        ("numeric", "many", "'many' of sample s1 has no number"),
        ("json_fields", "no", "target of sample s1 is not JSON"),
        ("includes", ".", "is empty"),
    ],
)
def test_a_target_the_scorer_cannot_use_is_no_wrong_answer(spec: str, target: str, message: str) -> None:
    with pytest.raises(ScorerError, match=message):
        score(spec, "1", target)


EXAMPLES: dict[str, tuple[dict[str, Any], Sample]] = {
    "exact": ({}, Sample("s1", "question", "a b")),
    "includes": ({}, Sample("s1", "question", "a b")),
    "token_f1": ({}, Sample("s1", "question", "a b")),
    "numeric": ({}, Sample("s1", "question", "12")),
    "json_fields": ({}, Sample("s1", "question", '{"a": 1}')),
    "regex": ({"pattern": r"[a-z]+-\d{2}"}, Sample("s1", "question", "ab-12")),
    "rouge_l": ({}, Sample("s1", "question", "a b")),
    "chrf": ({}, Sample("s1", "question", "a b")),
    "bleu": ({}, Sample("s1", "question", "a b")),
    "semantic_similarity": ({}, Sample("s1", "question", "a b")),
    "sql_logical_form": ({}, Sample("s1", "question", "SELECT a FROM t WHERE b = 'x'")),
    "citation": ({"answer": "exact"}, Sample("s1", "question", "a b", {"supporting_doc_ids": ["d1"]})),
    "tool_calls": ({}, Sample("s1", "question", '[{"name": "play", "arguments": {"song": "x"}}]')),
    "judge": ({"model": "scripted/echo", "rubric": "It is right."}, Sample("s1", "question", "a b")),
}
ASKING = {"semantic_similarity", "judge"}


def test_every_scorer_has_its_example_here() -> None:
    assert set(EXAMPLES) == set(SCORERS)
    kinds = {name: make_scorer({"name": name, **EXAMPLES[name][0]}, HERE) for name in SCORERS}
    assert {name for name, kind in kinds.items() if isinstance(kind, ModelScorer)} == ASKING


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - ASKING))
def test_every_scorer_keeps_the_contract(name: str) -> None:
    options, sample = EXAMPLES[name]
    scorer = make_scorer({"name": name, **options}, HERE)
    assert scorer.name == name
    right = right_answer(scorer, sample)
    assert right is not None
    assert scorer(right, sample).value == 1

    @given(st.text(max_size=50) | st.text('0123456789.,-/% {}[]":ae', max_size=30))
    def check(output: str) -> None:
        found = scorer(output, sample)
        assert found == scorer(output, sample)
        assert found.value in (0, 1) if scorer.binary else 0 <= found.value <= 1

    check()


def test_only_all_or_nothing_scorers_are_binary() -> None:
    binary = {name for name in SCORERS if make_scorer({"name": name, **EXAMPLES[name][0]}, HERE).binary}
    assert binary == {"exact", "includes", "numeric", "regex", "sql_logical_form", "citation", "tool_calls", "judge"}
    assert make_scorer(STRICT, HERE).binary


@pytest.mark.parametrize(
    ("spec", "where", "text"),
    [
        ("exat", "scorer", "no scorer 'exat'. Did you mean 'exact'?"),
        ("panel", "scorer", "Known are exact, includes"),
        ({"name": "judge", "model": "scripted/echo"}, "scorer", "judge needs the option rubric"),
        ({"name": "judge", "model": "m", "rubric": " "}, "scorer.rubric", "match pattern"),
        ({"name": "judge", "model": "m", "rubric": "r", "scale": "1-5"}, "scorer.scale", "'binary' or '0-10'"),
        ({"name": "chrf", "at_least": 50}, "scorer.at_least", "less than or equal to 1"),
        ({"name": "sql_logical_form", "dialect": "oracel"}, "scorer.dialect", "'bigquery'"),
        ({"name": "citation", "answer": "exat"}, "scorer.answer", "Did you mean 'exact'?"),
        ({"name": "citation", "answer": {"name": "numeric", "tol": 1}}, "scorer.answer.tol", "no option 'tol'"),
        ({"name": "citation", "answer": 3}, "scorer.answer", "must be a scorer"),
        ({"name": "citation", "only": True}, "scorer.only", "Did you mean 'only_gold'?"),
        ({}, "scorer", "has no name"),
        ({"name": "exact", "case_sensitve": True}, "scorer.case_sensitve", "Did you mean 'case_sensitive'?"),
        ({"name": "numeric", "tolerance": -1}, "scorer.tolerance", "greater than or equal to 0"),
        ({"name": "numeric", "tolerance": "1"}, "scorer.tolerance", "valid number"),
        ({"name": "json_fields", "fields": []}, "scorer.fields", "at least 1"),
        ({"name": "json_fields", "fields": "a"}, "scorer.fields", "valid list"),
        ("nope.py:score", "scorer", "there is no file 'nope.py'"),
    ],
)
def test_a_wrong_scorer_says_what_to_write(spec: Any, where: str, text: str) -> None:
    with pytest.raises(InputError) as raised:
        make_scorer(spec, HERE)
    (problem,) = raised.value.problems
    assert problem.where == where
    assert text in str(problem)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "numeric", "tolerance": -1, "tol": 3},
        {"name": "judge", "scale": 5},
        {"name": "citation", "answer": "exat", "only": True},
    ],
)
def test_all_wrong_options_are_told(spec: Any) -> None:
    with pytest.raises(InputError) as raised:
        make_scorer(spec, HERE)
    assert len(raised.value.problems) == 2 + (spec["name"] == "judge")


CODE = """
from __future__ import annotations
from dataclasses import dataclass
from evals.trial import Score

@dataclass
class Helper:
    weight: float = 0.5

def graded(output, sample):
    return Helper().weight if output == sample.target else 0

def yes_or_no(output: str, sample) -> bool:
    return output == sample.target

def full(output, sample):
    return Score(1.0, "because")

def fails(output, sample):
    raise KeyError("missing")

def too_much(output, sample):
    return 1.5

def nothing(output, sample):
    return None

def one_argument(output):
    return 1

async def later(output, sample):
    return 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "score.py").write_text(CODE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("function", "value", "binary"), [("graded", 0.5, False), ("yes_or_no", 1.0, True), ("full", 1.0, False)]
)
def test_a_function_of_the_scenario_scores(folder: Path, function: str, value: float, binary: bool) -> None:
    scorer = make_scorer(f"score.py:{function}", folder)
    assert scorer("a", Sample("s1", "q", "a")).value == value
    assert (scorer.name, scorer.binary) == (f"score.py:{function}", binary)
    assert not (folder / "__pycache__").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("score.py:fails", "score.py:fails raised KeyError: 'missing'"),
        ("score.py:too_much", "score.py:too_much returned 1.5 instead"),
        ("score.py:nothing", "score.py:nothing returned None instead"),
        ({"name": "score.py:graded", "binary": True}, "score.py:graded returned 0.5, but was declared"),
    ],
)
def test_a_failing_function_is_named(folder: Path, spec: Any, message: str) -> None:
    with pytest.raises(ScorerError) as raised:
        make_scorer(spec, folder)("a", Sample("s1", "q", "a"))
    assert message in str(raised.value)


def line_of(text: str) -> str:
    return f"score.py:{CODE[: CODE.index(text)].count(chr(10)) + 1}"


@pytest.mark.parametrize(
    ("code", "function", "where", "text"),
    [
        (CODE, "grade", "scorer", "has no function 'grade'. It has graded, yes_or_no"),
        (
            CODE,
            "one_argument",
            line_of("def one_argument"),
            "cannot be called with (output, sample). Write: def one_argument(",
        ),
        (CODE, "later", line_of("async def later"), "is async"),
        ("x = (\n", "f", "score.py:1", "broken Python"),
        ("import nothing_like_this", "f", "score.py", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "f", "score.py", "SystemExit"),
    ],
)
def test_code_that_cannot_be_used_is_a_problem(tmp_path: Path, code: str, function: str, where: str, text: str) -> None:
    (tmp_path / "score.py").write_text(code, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        make_scorer(f"score.py:{function}", tmp_path)
    (problem,) = raised.value.problems
    assert problem.where == where
    assert text in str(problem)
