"""The scorer `sql_logical_form`: pairs of queries that say the same, and pairs that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.scorers import ScorerError, make_scorer
from evals.task import Sample
from evals.trial import Score


def score(output: str, target: str, **options: Any) -> Score:
    return make_scorer({"name": "sql_logical_form", **options}, Path())(output, Sample("s1", "question", target))


TWO = "SELECT building FROM data WHERE floors > 20 AND year = 2013"
BRACKETS = "SELECT a FROM t WHERE (x = 1 OR y = 2) AND z = 3"
JOINED = "SELECT s.name FROM student AS s JOIN exam AS e ON s.id = e.student WHERE e.mark > 3"


@pytest.mark.parametrize(
    ("output", "target"),
    [
        ("select Building\nfrom DATA where FLOORS>20 and Year=2013;", TWO),
        ("SELECT building FROM data WHERE year = 2013 AND floors > 20", TWO),
        ("SELECT `building` FROM `data` WHERE (`year` = '2013') AND (20 < `floors`)".replace("`", '"'), TWO),
        ("SELECT d.building FROM data AS d WHERE d.floors > 20.0 AND d.year = 2013", TWO),
        ("SELECT building AS answer FROM data WHERE floors > 20 AND year = 2013 -- easy", TWO),
        ("```sql\nSELECT building FROM data WHERE floors > 20 AND year = 2013\n```", TWO),
        ("(SELECT building FROM data WHERE floors > 20 AND year = 2013)", TWO),
        ("SELECT a FROM t WHERE z = 3 AND (y = 2 OR x = 1)", BRACKETS),
        (
            "SELECT a FROM t WHERE c = 3 AND (b = 2 AND a = 1) AND b = 2",
            "SELECT a FROM t WHERE a = 1 AND b = 2 AND c = 3",
        ),
        ("SELECT a FROM t WHERE b = 'PARIS'", "SELECT a FROM t WHERE b = 'Paris'"),
        ('SELECT a FROM t WHERE b = "Paris"', "SELECT a FROM t WHERE b = 'paris'"),
        ("SELECT a FROM t WHERE b = 'it''s'", 'SELECT a FROM t WHERE b = "it\'s"'),
        ("SELECT a FROM t WHERE b != - 5", "SELECT a FROM t WHERE '-5' <> b"),
        ("SELECT a FROM t WHERE b IN (3, 1, 2)", "SELECT a FROM t WHERE b IN (1, 2, 3)"),
        ("SELECT count(*) n FROM t GROUP BY k ORDER BY n ASC", "SELECT COUNT(*) FROM t GROUP BY k ORDER BY COUNT(*)"),
        (
            "SELECT student.name FROM student INNER JOIN exam ON exam.student = student.id WHERE 3 < exam.mark",
            JOINED,
        ),
        (
            "SELECT a FROM t WHERE b = (SELECT MAX(u.b) FROM t AS u)",
            "SELECT t.a FROM t WHERE t.b = (SELECT MAX(b) FROM t)",
        ),
        ("SELECT q.x FROM (SELECT a AS x FROM t AS z) AS q", "SELECT x FROM (SELECT a AS x FROM t) AS r"),
        (
            "SELECT 1 FROM a AS p WHERE EXISTS (SELECT 1 FROM b AS p WHERE p.x = 1)",
            "SELECT 1 FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.x = 1)",
        ),
    ],
)
def test_the_same_query_in_another_form_scores_1(output: str, target: str) -> None:
    assert score(output, target).value == 1
    assert score(target, output.removeprefix("```sql\n").removesuffix("\n```")).value == 1


@pytest.mark.parametrize(
    ("output", "target"),
    [
        ("SELECT building FROM data WHERE floors >= 20 AND year = 2013", TWO),
        ("SELECT building FROM data WHERE floors > 20", TWO),
        ("SELECT building FROM data WHERE floors > 20 OR year = 2013", TWO),
        ("SELECT MAX(building) FROM data WHERE floors > 20 AND year = 2013", TWO),
        ("SELECT DISTINCT building FROM data WHERE floors > 20 AND year = 2013", TWO),
        ("SELECT floors FROM data WHERE floors > 20 AND year = 2013", TWO),
        ("SELECT building, year FROM data WHERE floors > 20 AND year = 2013", TWO),
        ("SELECT a FROM t WHERE x = 1 OR (y = 2 AND z = 3)", BRACKETS),
        ("SELECT a FROM t WHERE 20 > b", "SELECT a FROM t WHERE b > 20"),
        ("SELECT a - (b - c) FROM t", "SELECT a - b - c FROM t"),
        ("SELECT a, b FROM t", "SELECT b, a FROM t"),
        ("SELECT a FROM t ORDER BY b", "SELECT a FROM t ORDER BY b DESC"),
        ("SELECT e.name FROM student AS s JOIN exam AS e ON s.id = e.student WHERE e.mark > 3", JOINED),
        ("SELECT x.a FROM t AS x JOIN t AS y ON x.i = y.j", "SELECT y.a FROM t AS x JOIN t AS y ON x.i = y.j"),
        (
            "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.x = t.x)",
            "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.x = u.x)",
        ),
    ],
)
def test_another_query_scores_0(output: str, target: str) -> None:
    found = score(output, target)
    assert found.value == 0
    assert "is not the query" in found.reason


def test_texts_count_with_their_case_and_quotes_mean_names_when_the_scenario_says_so() -> None:
    assert score("SELECT a FROM t WHERE b = 'X'", "SELECT a FROM t WHERE b = 'x'", case_sensitive=True).value == 0
    double, single = 'SELECT a FROM t WHERE b = "x"', "SELECT a FROM t WHERE b = 'x'"
    assert score(double, single).value == 1
    assert score(double, single, dialect="postgres").value == 0
    assert score(double, single, dialect="mysql").value == 1
    assert score("SELECT `a` FROM t", "SELECT a FROM t", dialect="mysql").value == 1


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("", "does not begin with SELECT"),
        ("I do not know", "does not begin with SELECT"),
        ("DROP TABLE data", "does not begin with SELECT"),
        ("SELECT", "selects nothing"),
        ("SELECT building FROM data WHERE", "not one SQL query"),
        ("SELECT building FROM data WHERE floors > 20 This is the query", "not one SQL query"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT " + "(" * 500 + "1" + ")" * 500, "nested too deeply"),
        ("SELECT 1" + " + 1" * 2000, "nested too deeply"),
        ("WITH q AS (SELECT 1) 2.5 * 3 q UNION SELECT b FROM t", "cannot be made sense of"),
        ("SELECT " + "a, " * 10_000 + "a", "longer than"),
    ],
)
def test_an_answer_that_is_no_query_scores_0_and_says_why(output: str, why: str) -> None:
    found = score(output, TWO)
    assert found.value == 0
    assert why in found.reason
    assert "\n" not in found.reason
    assert "\x1b" not in found.reason


def test_a_target_that_is_no_query_is_no_wrong_answer() -> None:
    with pytest.raises(ScorerError, match="target of sample s1 is not one SQL query"):
        score("SELECT 1", "building")
