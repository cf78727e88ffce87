"""The next steps fit what happened: nothing is advised that was done, that cannot be, or that would not help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor import engine
from advisor.scenario.model import Overrides
from tests import toys

ALLOW = "Allow fine-tuning: set fine_tune.when to needed."


def steps(folder: Path, rules: list[dict[str, str]], overrides: Overrides, kind: str = "run", **changes: Any) -> str:
    """The next steps of a run on a model with these rules, a line each."""
    folder.mkdir(parents=True, exist_ok=True)
    model = toys.script(folder, "model", rules)
    path = toys.scenario(folder, model, n_test=60, **changes)
    execute = {"run": engine.run, "compare": engine.compare}[kind]
    report = execute(path, folder / "w", overrides).report
    assert report["pick"] is None
    return "\n".join(report["next_steps"])


def test_few_samples_without_a_wrong_answer_call_for_more_and_for_no_larger_model(tmp_path: Path) -> None:
    kept = Overrides(techniques=("zero_shot",), limit=12)
    never = {"when": "never", "backend": "scripted"}
    said = steps(tmp_path, toys.rules(1.0), kept, "compare", goal={"target": 0.9, "margin": 0.05}, fine_tune=never)
    assert said.startswith("Add test samples, or leave out --limit")
    assert "wrong answers" not in said
    assert "larger model" not in said
    assert ALLOW not in said


def test_wrong_answers_on_few_samples_still_call_for_a_better_model(tmp_path: Path) -> None:
    said = steps(tmp_path, toys.rules(0.4), Overrides(techniques=("zero_shot",), limit=12), "compare")
    assert "Add test samples" not in said
    assert "Name a larger model" in said


@pytest.mark.parametrize(("backend", "is_said"), [("scripted", True), ("local", False)])
def test_allowing_a_fine_tune_is_advised_where_a_model_can_be_tuned(
    backend: str, is_said: bool, tmp_path: Path
) -> None:
    never = {"when": "never", "backend": backend}
    said = steps(tmp_path, toys.rules(0.2), Overrides(techniques=("zero_shot",)), fine_tune=never)
    assert (ALLOW in said) is is_said


def test_a_fine_tune_that_falls_short_is_not_answered_by_fine_tuning(tmp_path: Path) -> None:
    model = toys.script(tmp_path, "model", [])
    path = toys.scenario(tmp_path, model, n_test=60)
    taught = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text("utf-8").splitlines()]
    other = dict(zip(toys.LABELS, toys.LABELS[1:] + toys.LABELS[:1], strict=True))
    rows = [json.dumps(row | {"target": other[row["target"]]}) + "\n" for row in taught]
    (tmp_path / "train.jsonl").write_text("".join(rows), encoding="utf-8")
    report = engine.compare(path, tmp_path / "w", Overrides(techniques=("fine_tune",))).report
    (step,) = [step for step in report["next_steps"] if "of its failures are skill" in step]
    assert step.startswith("fine_tune@")
    assert step.endswith("Left to try: knn_few_shot, few_shot, optimized_prompt.")
