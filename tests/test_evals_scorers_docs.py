"""The page docs/scorers.md: it names every scorer and option, and its examples load."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from evals.scorers import SCORERS, is_custom, make_scorer
from evals.scorers.citation import Citation
from evals.scorers.judge import Judge

PAGE = (Path(__file__).parent.parent / "docs" / "scorers.md").read_text("utf-8")
SECTIONS = {part.partition("\n")[0].strip(): part for part in PAGE.split("\n## ")[1:]}
EXAMPLES = [yaml.safe_load(block.partition("```")[0])["scorer"] for block in PAGE.split("```yaml\n")[1:]]


def test_every_scorer_has_a_section_and_a_row_of_the_table() -> None:
    assert set(SECTIONS) == {*SCORERS, "Your own"}
    assert set(re.findall(r"^\| \[`(\w+)`\]\(#\1\)", PAGE, re.MULTILINE)) == set(SCORERS)


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_examples_load(spec: object, tmp_path: Path) -> None:
    assert isinstance(spec, str | dict)
    name = spec if isinstance(spec, str) else spec["name"]
    if is_custom(name):
        (tmp_path / "score.py").write_text("def polite(output, sample):\n    return 1\n", "utf-8")
    assert make_scorer(spec, tmp_path).name == name


@pytest.mark.parametrize("name", SCORERS)
def test_every_option_is_named_in_its_section(name: str, tmp_path: Path) -> None:
    (spec,) = [one for one in EXAMPLES if (one if isinstance(one, str) else one["name"]) == name]
    scorer = make_scorer(spec, tmp_path)
    options = {field.name for field in fields(scorer)}  # type: ignore[arg-type]
    missing = {option for option in options if f"`{option}`" not in SECTIONS[name]}
    assert missing == set()


def test_the_check_of_options_sees_them() -> None:
    assert {field.name for field in fields(Citation)} == {"answer", "only_gold"}
    assert "human_answer" in {field.name for field in fields(Judge)}
