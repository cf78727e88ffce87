"""Exports of OpenAI's Evals: graders become scorers, runs become prompts, past results become a target."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from advisor.starting.initialise import init
from advisor.starting.openai_evals import goal_from, read_export
from backends.errors import InputError
from tests.test_advisor_starting_sources import checked, evals, grader, guessed, jsonl


def scorer_of(folder: Path, *graders: dict[str, Any]) -> Any:
    found = read_export(evals(folder, list(graders), n=30))
    assert found.measure is not None
    return found.measure.scorer


@pytest.mark.parametrize(
    ("graders", "wanted"),
    [
        ([grader("string_check", operation="eq")], {"name": "exact", "case_sensitive": True}),
        ([grader("string_check", operation="ilike")], {"name": "includes", "whole_words": False}),
        (
            [grader("string_check", operation="like")],
            {"name": "includes", "case_sensitive": True, "whole_words": False},
        ),
        ([grader("string_check", operation="ne")], "scorers.py:all_hold"),
        (
            [grader("text_similarity", evaluation_metric="rouge_l", pass_threshold=0.7)],
            {"name": "rouge_l", "at_least": 0.7},
        ),
        ([grader("text_similarity", evaluation_metric="bleu", pass_threshold=0.4)], {"name": "bleu", "at_least": 0.4}),
        (
            [grader("text_similarity", evaluation_metric="cosine", pass_threshold=0.8)],
            {"name": "semantic_similarity", "at_least": 0.8, "references": "references"},
        ),
        ([grader("text_similarity", evaluation_metric="fuzzy_match", pass_threshold=0.8)], "scorers.py:all_hold"),
        (
            [
                grader("string_check", operation="eq"),
                grader("text_similarity", evaluation_metric="fuzzy_match", pass_threshold=0.8),
            ],
            {"name": "exact", "case_sensitive": True},
        ),
    ],
)
def test_each_grader_has_its_scorer(tmp_path: Path, graders: list[dict[str, Any]], wanted: Any) -> None:
    assert scorer_of(tmp_path, *graders) == wanted


def test_metrics_with_a_near_kin_only_are_told(tmp_path: Path) -> None:
    found = read_export(evals(tmp_path, [grader("text_similarity", evaluation_metric="meteor", pass_threshold=0.5)]))
    assert found.measure is not None
    assert found.measure.scorer == {"name": "chrf", "at_least": 0.5}
    assert any("meteor itself: chrf stands in" in one for one in found.lost)


def test_equality_with_few_values_gives_labels_too(tmp_path: Path) -> None:
    scenario = checked(init(evals(tmp_path / "e", [grader("string_check", operation="eq")]), tmp_path / "made"))
    assert scenario.task.labels == ("fruit", "metal", "river")


def test_a_model_that_grades_becomes_a_judge_with_its_own_words(tmp_path: Path) -> None:
    said = [{"role": "system", "content": "Is {{sample.output_text}} a good answer to {{item.input}}?"}]
    label = {
        "type": "label_model",
        "name": "g",
        "model": "gpt-4o",
        "input": said,
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    }
    found = read_export(evals(tmp_path / "a", [label]))
    assert found.measure is not None
    assert isinstance(found.measure.scorer, dict)
    assert found.measure.scorer["name"] == "judge"
    assert "one of these labels: good" in found.examples[0].target, "each row's own rubric"
    assert "(the answer) a good answer to message 0" in found.examples[0].target
    score = {
        "type": "score_model",
        "name": "s",
        "model": "gpt-4o",
        "input": [{"role": "user", "content": "Polite?"}],
        "range": [0, 10],
        "pass_threshold": 7,
    }
    found = read_export(evals(tmp_path / "b", [score]))
    assert found.measure is not None
    assert isinstance(found.measure.scorer, dict)
    assert found.measure.scorer["rubric"].endswith("at least 7 on a scale from 0 to 10.")


def test_code_and_formulas_are_told_and_alone_refused(tmp_path: Path) -> None:
    python = {"type": "python", "name": "mine", "source": "def grade(sample, item): return 1.0"}
    found = read_export(
        evals(tmp_path / "a", [grader("string_check", operation="eq"), python, {"type": "multi", "name": "sum"}])
    )
    assert any("the grader mine: it is Python code, which is neither run nor translated" in one for one in found.lost)
    assert any("the grader sum: it is a formula" in one for one in found.lost)
    with pytest.raises(InputError, match="none of its 1 grader can be taken over"):
        read_export(evals(tmp_path / "b", [python]))


def test_a_grader_of_something_else_than_the_answers_text_is_told(tmp_path: Path) -> None:
    odd = grader("string_check", operation="eq", input="{{ sample.output_json.kind }}")
    found = read_export(evals(tmp_path, [grader("string_check", operation="eq"), odd]))
    assert any("only the answer's text can be scored" in one for one in found.lost)


def test_the_eval_and_its_items_may_be_one_file(tmp_path: Path) -> None:
    folder = evals(tmp_path / "e", [grader("string_check", operation="eq")])
    parts = {
        name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("eval", "runs", "output_items")
    }
    (tmp_path / "export.json").write_text(json.dumps(parts), encoding="utf-8")
    one, several = init(tmp_path / "export.json", tmp_path / "x"), init(folder, tmp_path / "y")
    assert one.splits == several.splits
    assert checked(one).task.test == checked(several).task.test


def test_items_in_a_file_of_their_own_are_found(tmp_path: Path) -> None:
    folder = evals(tmp_path / "e", [grader("string_check", operation="eq")])
    items = [{"item": {"input": f"message {i} about apple {i}", "ground_truth": "ab"[i % 2]}} for i in range(40)]
    (folder / "output_items.json").unlink()
    (folder / "runs.json").unlink()
    with pytest.raises(InputError, match="the export has no items"):
        init(folder, tmp_path / "made")
    jsonl(folder / "items.jsonl", items)
    made = init(folder, tmp_path / "made")
    assert checked(made).task.labels == ("a", "b")
    assert guessed(made, "input") == "item.input"


def test_a_data_file_alone_is_a_table(tmp_path: Path) -> None:
    items = [{"item": {"input": f"message {i} about apple {i}", "ideal": "ab"[i % 2]}} for i in range(40)]
    made = init(jsonl(tmp_path / "items.jsonl", items), tmp_path / "made")
    assert checked(made).task.labels == ("a", "b")
    assert guessed(made, "target") == "ideal"


def test_items_without_graders_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    folder = evals(tmp_path / "e", [])
    with pytest.raises(InputError, match="no testing_criteria"):
        init(folder, tmp_path / "made")


def test_a_conversation_in_the_item_is_the_input(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    folder.mkdir()
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    items = [{"item": {"chat": [*chat, {"role": "user", "content": f"no {i}"}], "ideal": f"yes {i}"}} for i in range(9)]
    source = {"input_messages": {"type": "item_reference", "item_reference": "item.chat"}, "source": {"content": items}}
    eq = {
        "type": "string_check",
        "name": "m",
        "input": "{{sample.output_text}}",
        "operation": "eq",
        "reference": "{{item.ideal}}",
    }
    (folder / "eval.json").write_text(json.dumps({"testing_criteria": [eq], "run": {"data_source": source}}), "utf-8")
    found = read_export(folder)
    assert found.instructions == "Be brief."
    assert found.examples[3].input == "User: hi\n\nUser: no 3"


def test_data_that_stayed_in_openais_store_are_named(tmp_path: Path) -> None:
    source = {"source": {"type": "file_id", "id": "file-abc"}}
    content = {"testing_criteria": [grader("string_check", operation="eq")], "run": {"data_source": source}}
    (tmp_path / "e.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"file-abc.*items\.jsonl"):
        read_export(tmp_path / "e.json")


@pytest.mark.parametrize(("rate", "target"), [(0.9, 0.87), (1.0, 0.96), (0.2, 0.5)])
def test_the_goal_is_no_worse_than_now(rate: float, target: float) -> None:
    assert goal_from(rate) == target


# -- the page about it ------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parent.parent / "docs" / "moving-off-openai-evals.md").read_text("utf-8")


def test_the_page_names_every_grader_and_metric_of_the_api() -> None:
    from openai.types.graders import StringCheckGrader, TextSimilarityGrader

    names = [*get_args(StringCheckGrader.model_fields["operation"].annotation)]
    names += [*get_args(TextSimilarityGrader.model_fields["evaluation_metric"].annotation)]
    names += ["string_check", "text_similarity", "score_model", "label_model", "python", "multi"]
    between = {"rouge_2", "rouge_3", "rouge_4"}
    assert [name for name in names if f"`{name}`" not in PAGE and name not in between] == []
    assert "`rouge_1` to `rouge_5`" in PAGE


def test_the_export_that_the_page_shows_runs_on_the_sdk_and_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's own code against a stand-in for the API, then `init` on what it saved."""
    httpx2, openai = pytest.importorskip("httpx2"), pytest.importorskip("openai")
    export = evals(tmp_path / "api", [grader("string_check", operation="eq")])
    said = {name: json.loads((export / f"{name}.json").read_text("utf-8")) for name in ("eval", "runs", "output_items")}
    run = {**said["runs"]["data"][0], "id": "evalrun_1", "status": "completed"}
    pages = {
        "/v1/evals/eval_...": {**said["eval"], "id": "eval_..."},
        "/v1/evals/eval_.../runs": {"object": "list", "data": [run], "has_more": False},
        "/v1/evals/eval_.../runs/evalrun_1/output_items": {**said["output_items"], "has_more": False},
    }
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=pages[request.url.path]))
    client = openai.OpenAI(api_key="x", base_url="https://api.test/v1", http_client=httpx2.Client(transport=transport))
    monkeypatch.setattr(openai, "OpenAI", lambda: client)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "moving-off-openai-evals.md", "exec"), {})
    client.close()
    made = init(tmp_path / "export", tmp_path / "made")
    assert checked(made).task.labels == ("fruit", "metal", "river")
    assert guessed(made, "goal") == "target 0.87"
