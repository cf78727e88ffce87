"""Promptfoo configurations: every assertion becomes a check, a limit, a judge, or a sentence about what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from advisor.scenario.load import load_scenario
from advisor.starting.assertions import compact, read_yaml
from advisor.starting.checks import Check, code, combine
from advisor.starting.draft import Draft
from advisor.starting.holding import FUNCTIONS
from advisor.starting.initialise import init
from advisor.starting.promptfoo import from_promptfoo
from advisor.starting.template import take_apart
from backends.errors import InputError
from evals.scorers import make_scorer
from evals.task import Sample


def draft(folder: Path, tests: list[dict[str, Any]], **more: Any) -> Draft:
    path = folder / "promptfooconfig.yaml"
    config = {"prompts": ["Q: {{q}}"], "tests": tests, **more}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return from_promptfoo(read_yaml(path), path)


def asserting(*asserts: Any, n: int = 4) -> list[dict[str, Any]]:
    return [{"vars": {"q": f"question {i}"}, "assert": list(asserts)} for i in range(n)]


def scorer_of(found: Draft) -> Any:
    assert found.measure is not None
    return found.measure.scorer


# -- one kind of assertion: a scorer that ships -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assertion", "scorer", "target"),
    [
        ({"type": "equals", "value": "Paris"}, {"name": "exact", "case_sensitive": True}, "Paris"),
        ({"type": "equals", "value": 4}, {"name": "exact", "case_sensitive": True}, "4"),
        (
            {"type": "contains", "value": "Paris"},
            {"name": "includes", "case_sensitive": True, "whole_words": False},
            "Paris",
        ),
        ({"type": "icontains", "value": "Paris"}, {"name": "includes", "whole_words": False}, "Paris"),
        (
            {"type": "icontains-any", "value": ["Rome", "Milan"]},
            {"name": "includes", "whole_words": False, "references": "references"},
            "Rome",
        ),
        ({"type": "regex", "value": "[0-9]+"}, {"name": "regex", "pattern": "target", "search": True}, "[0-9]+"),
        ({"type": "rouge-n", "value": "a text", "threshold": 0.6}, {"name": "rouge_l", "at_least": 0.6}, "a text"),
        ({"type": "bleu", "value": "a text"}, {"name": "bleu", "at_least": 0.5}, "a text"),
        (
            {"type": "similar", "value": "a text", "threshold": 0.8},
            {"name": "semantic_similarity", "at_least": 0.8, "references": "references"},
            "a text",
        ),
    ],
)
def test_a_single_kind_becomes_a_scorer_that_ships(
    tmp_path: Path, assertion: dict[str, Any], scorer: dict[str, Any], target: str
) -> None:
    found = draft(tmp_path, asserting(assertion))
    assert scorer_of(found) == scorer
    assert {example.target for example in found.examples} == {target}
    assert make_scorer(scorer, tmp_path)


def test_a_rubric_becomes_a_judge_and_no_right_answer_is_claimed(tmp_path: Path) -> None:
    found = draft(tmp_path, asserting({"type": "llm-rubric", "value": "is polite", "provider": "openai:gpt-5"}))
    assert scorer_of(found)["name"] == "judge"
    assert scorer_of(found)["rubric"] == "is polite"
    assert scorer_of(found)["reference"] is False
    assert not found.answers_known
    assert "openai/gpt-5" in found.guesses[-1].check, "the judge that needs a key is named"


def test_rubrics_that_differ_are_each_rows_reference(tmp_path: Path) -> None:
    tests = [
        {"vars": {"q": f"question {i}"}, "assert": [{"type": "factuality", "value": f"fact {i}"}]} for i in range(3)
    ]
    found = draft(tmp_path, tests)
    assert "no answer but a criterion" in scorer_of(found)["rubric"]
    assert "fact 1" in found.examples[1].target


# -- several kinds: scorers.py ----------------------------------------------------------------------------------------


def test_several_kinds_must_all_hold(tmp_path: Path) -> None:
    tests = asserting({"type": "icontains", "value": "paris"}, {"type": "not-contains", "value": "Rome"}, n=30)
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"prompts": ["{{q}}"], "tests": tests}), encoding="utf-8")
    made = init(tmp_path / "p.yaml", tmp_path / "made")
    assert made.problems == ()
    scenario = load_scenario(made.folder)
    sample = scenario.task.test[0]
    for answer, value in (("Paris!", 1), ("PARIS and Rome", 0), ("Lyon", 0)):
        assert scenario.scorer(answer, sample).value == value  # type: ignore[operator]
    assert sample.target == "paris", "what is looked for passes both checks, so it is a right answer"


def test_what_follows_from_equality_is_not_checked_twice(tmp_path: Path) -> None:
    found = draft(tmp_path, asserting({"type": "equals", "value": "Paris"}, {"type": "icontains", "value": "paris"}))
    assert scorer_of(found)["name"] == "exact"
    against = draft(tmp_path, asserting({"type": "equals", "value": "Paris"}, {"type": "contains", "value": "x"}))
    assert scorer_of(against) == "scorers.py:all_hold"


def test_rows_without_a_right_answer_keep_learners_out(tmp_path: Path) -> None:
    config = {"prompts": ["{{q}}"], "tests": asserting({"type": "is-json"}, {"type": "contains", "value": "a"}, n=9)}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    made = init(tmp_path / "p.yaml", tmp_path / "made")
    assert made.problems == ()
    scenario = load_scenario(made.folder)
    assert [one.name for one in scenario.techniques or ()] == ["chain"]
    assert scenario.fine_tune.when == "never"
    assert "no right answer" in scenario.task.test[0].target
    (told,) = [guess for guess in made.guesses if guess.what == "techniques"]
    assert told.why.startswith("9 rows, the first from p.yaml, test 1, have no right answer")


def test_the_code_that_is_written_holds_only_what_is_needed() -> None:
    text = code([[Check("contains", "a"), Check("regex", "b", negated=True)]])
    assert "def contains" in text
    assert "def regex" in text
    assert "def equals" not in text
    assert "import json" not in text
    compile(text, "scorers.py", "exec")


@pytest.mark.parametrize(
    ("kind", "value", "right", "wrong"),
    [
        ("equals", "Paris", " Paris\n", "paris"),
        ("equals", {"a": [1]}, '{"a": [1]}', '{"a": [2]}'),
        ("equals", {"a": 1}, '{"a": 1}', "no json"),
        ("contains", "ari", "Paris", "PARIS"),
        ("icontains", "ARI", "Paris", "Rome"),
        ("contains_all", ["a", "b"], "b a", "b"),
        ("contains_any", ["a", "b"], "b", "c"),
        ("icontains_all", ["A", "b"], "B a", "b"),
        ("icontains_any", ["A"], "a", "b"),
        ("starts_with", "Yes", "Yes, it is", "It is. Yes"),
        ("regex", r"\d{2}", "in 42 days", "in 4 days"),
        ("is_json", None, "[1]", "[1"),
        ("is_json", {"required": ["a"]}, '{"a": 1}', '{"b": 1}'),
        ("contains_json", None, 'Here: {"a": 1}.', "Here: {a}."),
        ("contains_json", {"required": ["a"]}, '{"b": 1} {"a": 1}', '{"b": 1}'),
        ("rouge_l", {"text": "the red house", "at_least": 0.8}, "the red house", "a green car"),
        ("bleu", {"text": "the red house is big", "at_least": 0.8}, "the red house is big", "a green car"),
        ("chrf", {"text": "the red house", "at_least": 0.8}, "the red house", "a green car"),
        ("fuzzy", {"text": "Technology", "at_least": 0.8}, "Technologies", "Tech"),
        ("fuzzy", {"text": "", "at_least": 0.8}, "", "x"),
        ("levenshtein", {"text": "kitten", "at_most": 3}, "sitting", "sittingness"),
    ],
)
def test_each_check_holds_where_it_should(kind: str, value: Any, right: str, wrong: str) -> None:
    assert FUNCTIONS[kind](right, value)
    assert not FUNCTIONS[kind](wrong, value)


def test_every_check_runs_in_the_file_that_is_written(tmp_path: Path) -> None:
    values: dict[str, Any] = dict.fromkeys(FUNCTIONS, "x")
    values |= {name: ["x"] for name in values if name.endswith(("_all", "_any"))}
    values |= {
        name: {"text": "x", "at_least": 0.5, "at_most": 9}
        for name in ("rouge_l", "bleu", "chrf", "fuzzy", "levenshtein")
    }
    values |= {"is_json": None, "contains_json": None}
    row = [Check(name, value) for name, value in values.items()]
    (tmp_path / "scorers.py").write_text(code([row]), encoding="utf-8")
    scorer = make_scorer("scorers.py:all_hold", tmp_path)
    assert scorer.binary
    for check in row:
        sample = Sample("1", "q", "x", {"checks": [check.as_field()]})
        answer = '["x"]' if "json" in check.kind else "x"
        assert scorer(answer, sample).value == 1, check.kind  # type: ignore[operator]
        sample = Sample("1", "q", "x", {"checks": [{**check.as_field(), "not": True}]})
        assert scorer(answer, sample).value == 0, check.kind  # type: ignore[operator]


def test_nothing_to_check_is_no_scorer() -> None:
    assert combine([[], []]) is None


# -- what is not taken over is told -----------------------------------------------------------------------------------


def test_code_is_neither_run_nor_translated_but_told(tmp_path: Path) -> None:
    equals = {"type": "equals", "value": "x"}
    found = draft(tmp_path, asserting(equals, {"type": "javascript", "value": "output.length < 5"}, n=3))
    assert any("`javascript`: it is code, which is neither run nor translated" in one for one in found.lost)
    assert any("3 times" in one for one in found.lost)
    with pytest.raises(InputError, match="no assertion can be taken over"):
        draft(tmp_path, asserting({"type": "python", "value": "file://grade.py"}))


@pytest.mark.parametrize(
    ("assertion", "told"),
    [
        ({"type": "regex", "value": "(?<year>\\d+)"}, "Python's `re` does not read the pattern"),
        ({"type": "is-json", "value": {"type": "nonsense"}}, "its schema is none"),
    ],
)
def test_patterns_and_schemas_that_cannot_be_used_here_are_told(
    tmp_path: Path, assertion: dict[str, Any], told: str
) -> None:
    found = draft(tmp_path, asserting({"type": "equals", "value": "x"}, assertion))
    assert scorer_of(found)["name"] == "exact"
    assert any(told in one for one in found.lost)


def test_limits_on_cost_and_latency_become_limits_of_the_goal(tmp_path: Path) -> None:
    asserts = [
        {"type": "equals", "value": "x"},
        {"type": "cost", "threshold": 0.002},
        {"type": "latency", "threshold": 1500},
    ]
    assert draft(tmp_path, asserting(*asserts)).limits == {"max_usd_per_1k_requests": 2.0, "max_p95_seconds": 1.5}


def test_checks_that_ask_models_do_not_mix_with_code(tmp_path: Path) -> None:
    asserts = [{"type": "contains", "value": "x"}, {"type": "llm-rubric", "value": "nice"}]
    found = draft(tmp_path, asserting(*asserts))
    assert scorer_of(found)["name"] == "includes"
    assert any("4 checks of kind judged" in one for one in found.lost)


def test_rows_that_no_check_speaks_of_are_left_out_and_told(tmp_path: Path) -> None:
    tests = [*asserting({"type": "equals", "value": "x"}), {"vars": {"q": "open"}, "assert": [{"type": "is-refusal"}]}]
    found = draft(tmp_path, tests)
    assert len(found.examples) == 4
    assert any("1 row that no check" in one for one in found.lost)
    assert any("`is-refusal`: there is no such check here" in one for one in found.lost)


def test_an_assert_set_counts_only_when_all_of_it_must_hold(tmp_path: Path) -> None:
    inner = [{"type": "contains", "value": "a"}, {"type": "contains", "value": "b"}]
    found = draft(tmp_path, asserting({"type": "assert-set", "assert": inner}))
    assert scorer_of(found) == "scorers.py:all_hold"
    some = asserting({"type": "equals", "value": "x"}, {"type": "assert-set", "threshold": 0.5, "assert": inner})
    assert any("only a part must hold" in one for one in draft(tmp_path, some).lost)


# -- prompts, vars, files ---------------------------------------------------------------------------------------------


def test_a_place_at_the_end_is_cut_off_and_others_keep_their_wording() -> None:
    rows = [{"text": "hello", "language": "French"}, {"text": "bye", "language": "Dutch"}]
    asked = take_apart([("user", "Say it in French: {{text}}")], rows)
    assert (asked.instructions, asked.inputs) == ("Say it in French:", ("hello", "bye"))
    asked = take_apart([("system", "Be brief."), ("user", "Say {{text}} in {{ language }}.")], rows)
    assert asked.instructions == "Be brief.\n\nSay [text] in [language]."
    assert asked.inputs[1] == "text: bye\nlanguage: Dutch"
    asked = take_apart([("user", "{{text}}")], rows)
    assert asked.instructions is None


def test_a_place_that_all_rows_fill_alike_is_part_of_the_instructions() -> None:
    rows = [{"q": "a", "country": "France"}, {"q": "b", "country": "France"}]
    asked = take_apart([("user", "About {{country}}. {{q}}")], rows)
    assert (asked.instructions, asked.inputs) == ("About France.", ("a", "b"))


def test_a_prompt_without_places_gets_all_vars_as_the_input() -> None:
    rows = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
    assert take_apart([("user", "Go.")], rows).inputs == ("a: 1\nb: x", "a: 2\nb: y")


def test_conversations_in_the_prompt_and_in_files_are_read(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{q}}"}]
    (tmp_path / "prompt.json").write_text(json.dumps(chat), encoding="utf-8")
    found = draft(tmp_path, asserting({"type": "equals", "value": "x"}), prompts=["file://prompt.json"])
    assert found.instructions == "Be brief."
    assert found.examples[0].input == "question 0"


def test_tests_in_files_are_read_and_those_made_by_code_are_told(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text('q,__expected\n"one","contains: x"\n"two","y"\n', encoding="utf-8")
    tests = [{"vars": {"q": "three"}, "assert": [{"type": "equals", "value": "z"}]}]
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    (tmp_path / "make.py").write_text("", encoding="utf-8")
    found = draft(tmp_path, ["file://more.csv", "file://more.yaml", "file://make.js", "file://../secret.csv"])  # type: ignore[list-item]
    assert [example.input for example in found.examples] == ["one", "two", "three"]
    assert [example.target for example in found.examples] == ["x", "y", "z"]
    assert sum("they are made by code or lie elsewhere" in one for one in found.lost) == 2


def test_vars_that_are_lists_become_a_row_each_and_fill_assertions(tmp_path: Path) -> None:
    tests = [{"vars": {"q": ["a", "b"], "want": "yes {{q}}"}, "assert": [{"type": "equals", "value": "ok {{q}}"}]}]
    assert [example.target for example in draft(tmp_path, tests).examples] == ["ok a", "ok b"]


def test_templates_of_assertions_are_followed(tmp_path: Path) -> None:
    templates = {"polite": {"type": "icontains", "value": "please"}}
    tests = asserting({"$ref": "#/assertionTemplates/polite"})
    assert draft(tmp_path, tests, assertionTemplates=templates).examples[0].target == "please"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Paris", {"type": "equals", "value": "Paris"}),
        ("equals: 4", {"type": "equals", "value": "4"}),
        ("note: this is text", {"type": "equals", "value": "note: this is text"}),
        ("similar(0.8): hello", {"type": "similar", "value": "hello", "threshold": 0.8}),
        ("not-contains: x", {"type": "not-contains", "value": "x"}),
        ("contains-any: a, b", {"type": "contains-any", "value": ["a", "b"]}),
    ],
)
def test_the_short_form_of_assertions_is_read(text: str, wanted: dict[str, Any]) -> None:
    assert compact(text) == wanted


def test_dates_in_yaml_are_texts(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "prompts: ['{{q}}']\ntests:\n- {vars: {q: 2026-01-02}, assert: [{type: equals, value: x}]}\n", encoding="utf-8"
    )
    found = from_promptfoo(read_yaml(tmp_path / "p.yaml"), tmp_path / "p.yaml")
    assert found.examples[0].input == "2026-01-02"
