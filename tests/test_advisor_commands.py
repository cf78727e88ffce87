"""Commands for people to paste: the scenario as it was named, the workspace where it is not the default, all quoted."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from advisor import engine
from advisor.cli.app import app
from advisor.cli.history import rewrite_report
from advisor.commands import DEFAULT_WORKSPACE, Commands, as_argument, renewed
from advisor.scenario.load import find_scenario
from advisor.scenario.model import Overrides
from tests import toys
from tests.test_advisor_cli import advisor


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("tickets", "tickets"),
        ("tickets/scenario.yaml", "tickets"),
        ("tickets/other.yaml", "tickets/other.yaml"),
        ("./my tickets/", "my tickets"),
        ("../beside", "../beside"),
        (".", "."),
        ("-n", "./-n"),
    ],
)
def test_a_scenario_is_named_as_it_was_given(
    given: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    path = here / given
    folder = path.parent if path.suffix else path
    folder.mkdir(parents=True, exist_ok=True)
    (path if path.suffix else path / "scenario.yaml").touch()
    monkeypatch.chdir(here)
    assert as_argument(find_scenario(Path(given))) == told
    assert as_argument(find_scenario(path)) == told, "beneath the current folder the short form is right too"
    monkeypatch.chdir("/")
    assert os.path.normpath(Path("/") / as_argument(find_scenario(path))) == os.path.normpath(
        folder if path.name != "other.yaml" else path
    )


def test_the_workspace_is_named_where_it_is_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Commands(Path("my tickets"), "20261123-1", DEFAULT_WORKSPACE)
    assert usual.resume("run") == "advisor run 'my tickets' --resume 20261123-1"
    assert usual.of_run("serve") == "advisor serve 20261123-1"
    other = Commands(Path("tickets"), "20261123-1", Path("a b"))
    assert other.about("compare", "--models", "a/b,c/d") == "advisor compare tickets --models a/b,c/d --workspace 'a b'"
    assert other.of_run("report") == "advisor report 20261123-1 --workspace 'a b'"


def printed(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name -> words of each command among the next steps."""
    found = [match for step in report["next_steps"] for match in re.findall(r"advisor [a-z]+ .*$", step)]
    return {shlex.split(text)[1]: shlex.split(text)[1:] for text in found}


def test_the_next_steps_work_as_they_are_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").mkdir()
    toys.scenario(tmp_path / "s", toys.script(tmp_path / "s", "m", toys.rules(0.95)), techniques=["zero_shot"])
    monkeypatch.chdir(tmp_path)
    report = engine.run("s", "my w", Overrides(diagnose=False)).report
    steps = printed(report)
    assert set(steps) >= {"compare", "serve", "gate"}
    assert steps["compare"][1] == steps["gate"][1] == "s"
    for name in steps:
        known = next(one for one in app.registered_commands if one.callback and one.callback.__name__ == name)
        assert known.callback
        assert "workspace" in known.callback.__annotations__
        assert steps[name][-2:] == ["--workspace", "my w"]
    assert advisor(*steps["gate"], "--quiet") == 0
    assert advisor(*steps["compare"], "--quiet") == 0
    assert not (tmp_path / ".advisor").exists()


def test_a_run_that_stopped_says_the_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").mkdir()
    model = toys.script(tmp_path / "s", "m", toys.rules(0.95), usd_per_1m_input=1000.0, billed=True)
    toys.scenario(tmp_path / "s", model, techniques=["zero_shot"])
    monkeypatch.chdir(tmp_path)
    report = engine.run("s", "w", Overrides(budget_usd=0.05)).report
    assert report["stopped"]
    assert report["next_steps"] == [
        f"Go on where this run stopped: advisor run s --resume {report['run_id']} --workspace w"
    ]


def test_another_command_than_that_of_the_run_is_told_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").mkdir()
    toys.scenario(tmp_path / "s", toys.script(tmp_path / "s", "m", toys.rules(0.95)), techniques=["zero_shot"])
    monkeypatch.chdir(tmp_path)
    run = engine.run("s", "w", Overrides(diagnose=False)).report["run_id"]
    assert advisor("compare", "s", "--resume", run, "--workspace", "w") == 2
    assert f"Go on with: advisor run s --resume {run} --workspace w\n" in capfd.readouterr().err


def test_a_report_that_is_shown_elsewhere_names_commands_that_work_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    toys.scenario(here / "my tickets", toys.script(tmp_path, "m", toys.rules(0.95)), fine_tune={"when": "never"})
    monkeypatch.chdir(here)
    report = engine.run("my tickets", DEFAULT_WORKSPACE, Overrides(techniques=("zero_shot",))).report
    steps, run = list(report["next_steps"]), report["run_id"]
    assert f"advisor serve {run}" in steps[1]
    assert rewrite_report(DEFAULT_WORKSPACE, run)[0]["next_steps"] == steps, "here they are good as they are"
    monkeypatch.chdir(there)
    given = Path("../here/.advisor")
    moved = rewrite_report(given, run)[0]["next_steps"]
    assert len(moved) == len(steps)
    assert f": advisor compare '{here / 'my tickets'}' --workspace {given}" in moved[0]
    assert moved[1].endswith(f": advisor serve {run} --workspace {given}")
    assert f"--against {run} --workspace {given}" in moved[-1]
    monkeypatch.chdir(here)
    assert rewrite_report(DEFAULT_WORKSPACE, run)[0]["next_steps"] == steps, "and back again"


@pytest.mark.parametrize("said", ["Label 5 more.", "It said: advisor isn't here", "Add such as: advisor a  b"])
def test_a_sentence_without_a_command_stays_as_it_is(said: str) -> None:
    assert renewed(said, Commands(Path("s"), "r", Path("w"))) == said
