"""What a scenario is told about its scorer before anything is spent."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from advisor.scenario.load import load_scenario
from backends.errors import InputError, Problem
from evals.scorers.judge import JUDGE_WARNING
from tests import toys

RIGHT = json.dumps({"reason": "r", "verdict": "pass"})


@pytest.fixture
def model(tmp_path: Path) -> str:
    return toys.script(tmp_path, "model", toys.rules(0.9))


def with_scorer(folder: Path, model: str, scorer: Any, **fields: Any) -> Path:
    """A scenario with this scorer, `fields` in every sample."""
    path = toys.scenario(folder, model, n_test=30, scorer=scorer)
    for split in ("train", "dev", "test"):
        file = folder / f"{split}.jsonl"
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        file.write_text("".join(json.dumps({**row, **fields}) + "\n" for row in rows), "utf-8")
    return path


def problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as raised:
        load_scenario(path)
    return raised.value.problems


def line_of(path: Path, key: str) -> str:
    lines = path.read_text("utf-8").splitlines()
    return f"scenario.yaml:{next(n for n, line in enumerate(lines, 1) if line.strip().startswith(key))}"


@pytest.mark.parametrize(
    "scorer",
    [
        "rouge_l",
        {"name": "chrf", "at_least": 0.9},
        {"name": "bleu", "tokenize": "char"},
        "semantic_similarity",
        {"name": "regex", "pattern": "[a-z]+"},
        {"name": "regex", "pattern": "target"},
        {"name": "citation", "answer": "exact"},
    ],
)
def test_targets_that_fit_their_scorer_load(tmp_path: Path, model: str, scorer: Any) -> None:
    scenario = load_scenario(with_scorer(tmp_path / "s", model, scorer, supporting_doc_ids=["d1"]))
    name = scorer if isinstance(scorer, str) else scorer["name"]
    assert scenario.scorer.name == name
    assert scenario.scorer_name.startswith(name)
    assert JUDGE_WARNING not in scenario.warnings


def test_loading_asks_the_judge_nothing_and_warns(tmp_path: Path, model: str) -> None:
    judge = toys.script(tmp_path, "judge", [{"when": "", "error": "nobody may ask"}])
    rubric = "It names the right thing.\nNothing else counts, however long the answer may be."
    scorer = {"name": "judge", "model": judge, "rubric": rubric}
    scenario = load_scenario(with_scorer(tmp_path / "s", model, scorer))
    assert scenario.warnings.count(JUDGE_WARNING) == 1
    assert "\n" not in scenario.scorer_name
    assert len(scenario.scorer_name) < 300


@pytest.mark.parametrize("inside", [False, True])
def test_a_judge_that_cannot_be_used_is_a_problem_at_its_line(tmp_path: Path, model: str, inside: bool) -> None:
    judge = {"name": "judge", "rubric": "r", "model": "scripted/missing.json"}
    scorer = {"name": "citation", "answer": judge} if inside else judge
    path = with_scorer(tmp_path / "s", model, scorer, supporting_doc_ids=["d1"])
    (problem,) = problems(path)
    assert problem.where == line_of(path, "model: scripted/missing.json")
    assert "no script file 'missing.json'" in problem.what


@pytest.mark.parametrize(
    ("scorer", "fields", "text"),
    [
        ({"name": "regex", "pattern": r"\d+"}, {}, "the right answer itself scores 0 with regex"),
        ({"name": "semantic_similarity", "references": "answers"}, {}, "no field 'answers'"),
        ("citation", {}, "has no gold documents"),
        ("sql_logical_form", {}, "is not one SQL query"),
        ({"name": "judge", "model": "scripted/echo", "rubric": "r"}, {"human_score": 3}, "holds no answer"),
    ],
)
def test_samples_that_a_scorer_cannot_use_are_told_with_their_place(
    tmp_path: Path, model: str, scorer: Any, fields: dict[str, Any], text: str
) -> None:
    (problem,) = problems(with_scorer(tmp_path / "s", model, scorer, **fields))
    assert problem.where.startswith("train.jsonl:1")
    assert text in problem.what


def test_a_broken_pattern_is_a_problem_at_its_line(tmp_path: Path, model: str) -> None:
    path = with_scorer(tmp_path / "s", model, {"name": "regex", "pattern": "("})
    (problem,) = problems(path)
    assert problem.where == line_of(path, "pattern:")
    assert "not a regular expression" in problem.what


def test_a_missing_package_is_a_problem_of_the_scorer(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_scorer(tmp_path / "s", model, "chrf")
    monkeypatch.delitem(sys.modules, "evals.scorers.overlap", raising=False)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    (problem,) = problems(path)
    assert problem.where == line_of(path, "scorer:")
    assert "pip install 'cheapest-llm-advisor[text]'" in problem.remedy


def test_a_function_inside_another_scorer_is_told_and_part_of_the_scenario(tmp_path: Path, model: str) -> None:
    path = with_scorer(tmp_path / "s", model, {"name": "citation", "answer": "own.py:good"}, supporting_doc_ids=["d1"])
    code = "def good(output, sample) -> bool:\n    return output == sample.target\n"
    (path.parent / "own.py").write_text(code, "utf-8")
    scenario = load_scenario(path)
    assert any("own.py:good is code of the scenario" in warning for warning in scenario.warnings)
    assert path.parent / "own.py" in scenario.files


def test_a_misspelt_field_is_found_before_it_makes_every_answer_right(tmp_path: Path, model: str) -> None:
    path = with_scorer(tmp_path, model, {"name": "json_fields", "fields": ["intnt"]}, target={"intent": "x"})
    text = path.read_text("utf-8")
    kept = [line for line in text.splitlines() if not line.startswith(("labels:", "- fruit", "- metal", "- river"))]
    path.write_text("\n".join(kept), "utf-8")
    (problem,) = problems(path)
    assert problem.what == "json_fields: no target has the field 'intnt'."
