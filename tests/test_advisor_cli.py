"""The command line as a user meets it: exit codes, one clear message for bad input, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advisor.cli import main
from backends.errors import BackendUnavailable
from tests import toys


def advisor(*arguments: object) -> int:
    """Run the command in this process; returns its exit code."""
    before, sys.argv = sys.argv, ["advisor", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "s"
    folder.mkdir()
    model = toys.script(folder, "model", toys.rules(0.95, needs="worked example"))
    return toys.scenario(folder, model)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def break_line_57(scenario: Path) -> None:
    path = scenario.parent / "test.jsonl"
    lines = path.read_text("utf-8").splitlines()
    lines[56] = lines[56][:-3]
    path.write_text("\n".join(lines), "utf-8")


BAD_INPUT = {
    "missing file": (lambda s: (s.parent / "dev.jsonl").unlink(), ["dev.jsonl", "scenario.yaml"]),
    "broken line": (break_line_57, ["test.jsonl:57"]),
    "label outside": (lambda s: replace(s.parent / "dev.jsonl", '"fruit"', '"fruits"'), ["dev.jsonl:", "'fruits'"]),
    "empty test": (lambda s: (s.parent / "test.jsonl").write_text(""), ["test.jsonl"]),
    "technique": (lambda s: replace(s, "knn_few_shot", "knn_fewshot"), ["scenario.yaml:", "knn_few_shot"]),
    "model": (lambda s: replace(s, "scripted/", "scriptd/"), ["scenario.yaml:", "scripted/"]),
    "target": (lambda s: replace(s, "target: 0.7", "target: 85"), ["scenario.yaml:", "0.85"]),
    "hub model": (
        lambda s: replace(s, f"- scripted/{s.parent}/model.json", "- local/acme/no-such-model"),
        ["local/acme/no-such-model", "hf download acme/no-such-model"],
    ),
    "leak": (
        lambda s: (s.parent / "dev.jsonl").write_text((s.parent / "test.jsonl").read_text("utf-8"), "utf-8"),
        ["dev.jsonl:1", "test.jsonl:1"],
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
@pytest.mark.parametrize("command", ["check", "run"])
def test_bad_input_is_named_with_its_place_and_leaves_no_workspace(
    name: str, command: str, good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, words = BAD_INPUT[name]
    spoil(good)
    options = ["--workspace", tmp_path / "w"] if command == "run" else []
    assert advisor(command, good, *options) == 2
    said = capfd.readouterr().err
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    assert not (tmp_path / "w").exists()


def test_all_problems_are_told_at_once(good: Path, capfd: pytest.CaptureFixture[str]) -> None:
    replace(good, "target: 0.7", "target: 85")
    replace(good, "knn_few_shot", "knn_fewshot")
    break_line_57(good)
    assert advisor("check", good) == 2
    said = capfd.readouterr().err
    assert said.startswith("3 problems:")
    assert said.count("\n") == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nope"], ["there is no run 'nope'", "advisor runs"]),
        (["run", "GOOD", "--resume", "nope"], ["there is no run 'nope'"]),
        (["check", "nowhere"], ["nowhere", "there is no such scenario"]),
    ],
)
def test_what_does_not_exist_is_said(
    arguments: list[str], words: list[str], good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert advisor("run", good, "--quiet", "--workspace", tmp_path / "w") == 0
    place = [] if arguments[0] == "check" else ["--workspace", tmp_path / "w"]
    capfd.readouterr()
    assert advisor(*[str(good) if one == "GOOD" else one for one in arguments], *place) == 2
    said = capfd.readouterr().err
    assert all(word in said for word in words), said


def test_a_workspace_that_cannot_be_written_is_one_message(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w").write_text("a file where the folder should be")
    assert advisor("run", good, "--workspace", tmp_path / "w") == 4
    said = capfd.readouterr().err
    assert "--workspace" in said
    assert "Traceback" not in said


def test_run_shows_the_verdict_and_writes_the_report(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert advisor("run", good, "--workspace", tmp_path / "w", "--json", tmp_path / "r.json") == 0
    said = capfd.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["because"][0] in said.replace("\n", " ")
    assert "certified" in said
    assert advisor("runs", "--workspace", tmp_path / "w") == 0
    assert report["run_id"] in capfd.readouterr().out
    assert advisor("report", report["run_id"][:12], "--workspace", tmp_path / "w", "--quiet") == 0
    assert report["because"][0] in capfd.readouterr().out.replace("\n", " ")


def test_check_says_what_would_run_and_leaves_nothing_behind(
    good: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert advisor("check", good) == 0
    said = capfd.readouterr().out
    assert "120 test samples" in said
    assert "zero_shot@scripted/" in said
    assert not (tmp_path / ".advisor").exists()


def test_a_backend_that_fails_for_good_leaves_the_command_that_goes_on(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise BackendUnavailable("the limit of today is reached. Go on later with --resume.")

    with monkeypatch.context() as patch:
        patch.setattr("backends.scripted.ScriptedChat.complete", fails)
        assert advisor("compare", good, "--quiet", "--workspace", tmp_path / "w") == 4
    first, second = capfd.readouterr().err.splitlines()
    assert first == "the limit of today is reached. Go on later with --resume."
    assert second.startswith("Go on with: advisor compare ")
    words = shlex.split(second.removeprefix("Go on with: advisor "))
    assert "--resume" in words
    assert advisor(*words, "--quiet") == 0


def test_last_is_the_run_that_a_command_can_use(good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    where = ["--workspace", tmp_path / "w"]
    assert advisor("run", good, *where, "--resume", "last") == 2
    assert "there is no run 'last'" in capfd.readouterr().err
    assert advisor("run", good, "--quiet", *where, "--json", tmp_path / "r.json") == 0
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert advisor("gate", good, "--against", "last", "--quiet", *where) == 0
    capfd.readouterr()
    assert advisor("report", "last", "--quiet", *where) == 0
    assert found["because"][0] in capfd.readouterr().out.replace("\n", " ")
    assert advisor("run", good, "--resume", "last", *where) == 2
    assert "the workspace has no interrupted `run` of toy" in capfd.readouterr().err
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as connection:
        connection.execute("UPDATE runs SET status = 'interrupted' WHERE kind = 'run'")
        ((gate,),) = connection.execute("SELECT id FROM runs WHERE kind = 'gate'").fetchall()
    assert advisor("run", good, "--quiet", "--resume", "last", *where, "--json", tmp_path / "again.json") == 0
    assert json.loads((tmp_path / "again.json").read_text("utf-8"))["run_id"] == found["run_id"]
    assert advisor("report", gate, *where) == 2
    assert "this is a `gate`" in capfd.readouterr().err


def test_one_of_anything_is_told_in_the_singular(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    model = toys.script(folder, "model", toys.rules(0.95))
    goal, traffic = {"target": 0.01, "margin": 0.9}, {"requests_per_month": 1}
    path = toys.scenario(folder, model, n_test=1, goal=goal, traffic=traffic)
    for split in ("train", "dev"):
        lines = (folder / f"{split}.jsonl").read_text("utf-8").splitlines()
        (folder / f"{split}.jsonl").write_text(lines[0] + "\n", "utf-8")
    assert advisor("check", path) == 0
    assert advisor("estimate", path) == 0
    where = ["--workspace", tmp_path / "w"]
    for command in ("run", "compare"):
        advisor(command, path, *where, "--json", tmp_path / f"{command}.json")
    told = capfd.readouterr().out + (tmp_path / "run.json").read_text("utf-8")
    told += "".join(page.read_text("utf-8") for page in (tmp_path / "w" / "runs").glob("*/report.md"))
    assert "1 test sample" in told
    nouns = "samples|requests|failures|candidates|trials|rows|answers|inputs|times|documents"
    assert re.findall(rf"(?<![\d.,])1 (?:[a-z]+ )?(?:{nouns})\b.*", told) == []


@pytest.mark.parametrize("stage", ["trials", "tuning"])
def test_kill_9_loses_nothing(stage: str, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    slow = {"sleep_seconds": 0.1} if stage == "trials" else {}
    model = toys.script(folder, "model", toys.rules(0.4, seed=3), **slow)
    recipe = {"sleep_seconds": 0.1} if stage == "tuning" else {}
    tune = {"when": "needed", "backend": "scripted", "base": model, "recipe": recipe}
    path = toys.scenario(folder, model, fine_tune=tune, techniques=["zero_shot", "few_shot"])
    assert advisor("run", path, "--workspace", tmp_path / "whole", "--quiet", "--json", tmp_path / "whole.json") == 0

    command = [sys.executable, "-m", "advisor", "run", str(path), "--workspace", str(tmp_path / "w")]
    process = subprocess.Popen([*command, "--quiet"], cwd=Path(__file__).parent.parent)
    database = tmp_path / "w" / "advisor.db"
    wanted = 20 if stage == "trials" else 50
    for _ in range(3000):
        time.sleep(0.02)
        if database.exists() and len(_trials(database)) >= wanted:
            break
    time.sleep(0.3 if stage == "tuning" else 0.0)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = _trials(database)
    assert len(before) >= wanted
    with sqlite3.connect(database) as connection:
        ((run_id, status),) = connection.execute("SELECT id, status FROM runs").fetchall()
    assert status == "running"

    resumed = subprocess.run([*command, "--quiet", "--resume", run_id, "--json", str(tmp_path / "r.json")], check=False)
    assert resumed.returncode == 0
    after = _trials(database)
    assert before.items() <= after.items(), "a trial was evaluated twice"
    one, other = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("whole.json", "r.json"))
    for key in ("verdict", "pick", "because", "candidates", "escalation"):
        assert one[key] == other[key]


def _trials(database: Path) -> dict[str, str]:
    """Every stored trial with the moment it was written."""
    with sqlite3.connect(database) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trials'").fetchone():
            return {}
        key = "candidate || '/' || variant || '/' || split || '/' || sample_id"
        return dict(connection.execute(f"SELECT {key}, created FROM trials"))


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    path = toys.scenario(folder, toys.script(folder, "model", toys.rules(0.4, seed=3), sleep_seconds=0.5))
    command = [sys.executable, "-m", "advisor", "run", str(path), "--workspace", str(tmp_path / "w")]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE, text=True)
    for _ in range(3000):
        time.sleep(0.02)
        if (tmp_path / "w" / "advisor.db").exists() and _trials(tmp_path / "w" / "advisor.db"):
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as connection:
        ((run_id, status),) = connection.execute("SELECT id, status FROM runs").fetchall()
    assert f"Go on with: advisor run {folder} --resume {run_id} --workspace {tmp_path / 'w'}" in said
    assert status == "interrupted"


def test_spending_needs_consent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    model = toys.script(folder, "model", toys.rules(0.95), billed=True)
    path = toys.scenario(folder, model, techniques=["zero_shot"])
    assert advisor("run", path, "--workspace", tmp_path / "w") == 2
    assert "Add --yes" in capfd.readouterr().err
    assert not (tmp_path / "w").exists()
    assert advisor("run", path, "--workspace", tmp_path / "w", "--yes", "--quiet") == 0


def test_a_run_that_is_resumed_asks_for_consent_to_its_own_models(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    paid = toys.script(folder, "paid", toys.rules(0.95), billed=True)
    path = toys.scenario(folder, toys.script(folder, "free", toys.rules(0.95)), techniques=["zero_shot"])
    assert advisor("run", path, "--workspace", tmp_path / "w", "--models", paid, "--yes", "--quiet") == 0
    with sqlite3.connect(tmp_path / "w" / "advisor.db") as connection:
        ((run_id,),) = connection.execute("SELECT id FROM runs").fetchall()
    capfd.readouterr()
    assert advisor("run", path, "--workspace", tmp_path / "w", "--resume", run_id) == 2
    assert f"calls to {paid} spend money. Add --yes" in capfd.readouterr().err


def test_a_report_that_cannot_be_written_is_found_before_the_run(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert advisor("run", good, "--workspace", tmp_path / "w", "--json", tmp_path / "nowhere" / "r.json") == 2
    assert "cannot be written" in capfd.readouterr().err
    assert not (tmp_path / "w").exists()
