"""What is checked in works: scenarios load, the README names what exists, and the real default model answers."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import get_args

import pytest

from advisor import engine
from advisor.candidates import lineup
from advisor.cli.app import app
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, When
from advisor.techniques import registry
from backends.local.recipe import Recipe

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("ADVISOR_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scenarios").glob("*/scenario.yaml")), ids=lambda path: path.parent.name
)
def test_every_scenario_is_in_order(path: Path) -> None:
    assert lineup(load_scenario(path)).prompting
    assert (path.parent / "README.md").is_file()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no public data in {DATA}; set ADVISOR_DATA")
@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "scenarios").glob("*/scenario.yaml")), ids=lambda path: path.parent.name
)
def test_every_benchmark_scenario_is_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_DATA", str(DATA))
    assert lineup(load_scenario(path)).prompting


def test_the_readme_names_what_exists() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    shown = set(re.findall(r"^advisor (\w+)", readme, flags=re.MULTILINE))
    assert shown == commands
    tree = readme.split("## Where things are")[1].split("```")[1]
    modules = re.findall(r"(\w+\.py)", tree)
    assert len(modules) > 10
    tops = ("advisor", "backends", "benchmarks", "evals", "tests")
    ours = {path.name for top in tops for path in (ROOT / top).rglob("*.py")}
    assert [name for name in modules if name not in ours and name != "tools.py"] == []
    assert all((ROOT / link).is_file() for link in re.findall(r"\]\((\S+?)\)", readme))


def test_the_default_model_is_measured_end_to_end(tmp_path: Path) -> None:
    overrides = Overrides(techniques=("zero_shot",), limit=20, diagnose=False)
    report = engine.compare(ROOT / "scenarios" / "helpdesk_routing", tmp_path / "w", overrides).report
    row = report["candidates"][0]
    assert (row["technique"], row["model"], row["n"], row["errors"]) == ("zero_shot", "local/smollm2-135m", 20, 0)
    # The queues alone take some 300 tokens; each answer is one of them, at most a few tokens long.
    assert 300 < row["tokens_per_request"]["input"] < 600
    assert 1 <= row["tokens_per_request"]["output"] <= 10
    assert row["usd_per_1k_requests"] > 0
    assert row["evaluation"]["requests"] == 20 + 50


def test_the_docs_know_every_technique_and_its_settings() -> None:
    sections = (ROOT / "docs" / "techniques.md").read_text("utf-8").split("\n## ")[1:]
    told = {section.partition("\n")[0]: section for section in sections}
    assert list(told) == registry.names()
    for name, section in told.items():
        technique = registry.make(name, {})
        for setting in dataclasses.fields(technique):  # type: ignore[arg-type]
            assert f"| `{setting.name}` |" in section or (name == "rag+knn_few_shot" and setting.name in told["rag"])


def test_the_docs_know_every_key_of_the_recipe() -> None:
    told = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "fine-tuning.md").read_text("utf-8"), flags=re.MULTILINE)
    assert [key for key in told if key not in get_args(When)] == [field.name for field in dataclasses.fields(Recipe)]
