"""`advisor estimate`, and the estimate before the question whether to spend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import toys
from tests.test_advisor_cli import advisor


@pytest.fixture
def billed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario whose model costs money: a dollar for a thousand words."""
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "s"
    folder.mkdir()
    model = toys.script(folder, "model", toys.rules(0.9), billed=True, usd_per_1m_input=1000.0, usd_per_1m_output=0.0)
    return toys.scenario(folder, model, n_test=40, fine_tune={"when": "never"})


def test_it_shows_every_candidate_and_spends_nothing(
    billed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert advisor("estimate", billed, "--workspace", tmp_path / "w", "--json", tmp_path / "e.json") == 0
    shown = capsys.readouterr().out
    for word in ("zero_shot", "few_shot", "knn_few_shot", "in all", "compare", "run, stops early", "assumed"):
        assert word in shown
    assert max(len(line) for line in shown.splitlines() if not line.startswith("assumed")) <= 80
    assert not (tmp_path / "w").exists()
    found = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert found["run"]["billed_usd"]["low"] > 0
    assert {one["id"].partition("@")[0] for one in found["candidates"]} == {"zero_shot", "few_shot", "knn_few_shot"}
    assert not found["over_budget"]


def test_over_budget_is_said_with_exit_code_3(billed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert advisor("estimate", billed, "--budget-usd", "0.01", "--quiet") == 3
    shown = capsys.readouterr().out
    assert "even the least" in shown
    assert "--budget-usd" in shown
    assert advisor("estimate", billed, "--budget-usd", "100000") == 0
    assert "enough, also at worst" in capsys.readouterr().out


def test_quiet_is_two_lines_at_most(billed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert advisor("estimate", billed, "--quiet") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("run: $")


def test_the_same_command_gives_the_same_figures(billed: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert advisor("estimate", billed, "--seed", "3", "--json", tmp_path / name, "--quiet") == 0
    assert (tmp_path / "a").read_text("utf-8") == (tmp_path / "b").read_text("utf-8")


def test_no_key_is_needed_to_estimate_a_hosted_model(
    billed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert advisor("estimate", billed, "--models", "openai/gpt-4.1-mini") == 0
    assert "$" in capsys.readouterr().out
    assert advisor("check", billed, "--models", "openai/gpt-4.1-mini") == 2


def test_probes_ask_first_and_are_remembered(billed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("estimate", billed, "--probe", "4", "--workspace", tmp_path / "w", "--json", tmp_path / "e.json")
    assert advisor(*arguments) == 2
    assert "--yes" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
    assert advisor(*arguments, "--yes") == 0
    assert "Probed 4 dev samples" in capsys.readouterr().out
    first = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert first["probed_usd"] > 0
    assert advisor(*arguments, "--yes", "--quiet") == 0
    again = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert again["probed_usd"] == 0
    assert again["run"] == first["run"]


def test_probes_keep_within_the_budget(billed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--probe", "4", "--yes", "--workspace", tmp_path / "w", "--budget-usd", "0.02")
    assert advisor("estimate", billed, *options) == 3
    assert "budget" in capsys.readouterr().err


def test_a_run_says_what_it_will_cost_before_it_asks(
    billed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert advisor("run", billed, "--workspace", tmp_path / "w") == 2
    told = capsys.readouterr()
    assert "Estimate of what is billed: $" in told.out
    assert "spend money" in told.err
    assert not (tmp_path / "w").exists()
    advisor("run", billed, "--workspace", tmp_path / "w", "--yes")
    assert "Estimate of what is billed: $" in capsys.readouterr().out
    advisor("run", billed, "--workspace", tmp_path / "w", "--yes", "--quiet")
    assert "Estimate" not in capsys.readouterr().out


def test_a_run_that_cannot_keep_its_budget_is_not_begun(
    billed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compare", billed, "--workspace", tmp_path / "w", "--yes", "--budget-usd", "0.05")
    assert advisor(*arguments) == 3
    assert "even the least" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_answers_that_are_remembered_may_make_a_run_cheaper_than_its_least(billed: Path, tmp_path: Path) -> None:
    assert advisor("compare", billed, "--workspace", tmp_path / "w", "--yes", "--quiet") == 0
    arguments = ("compare", billed, "--workspace", tmp_path / "w", "--yes", "--budget-usd", "0.05", "--quiet")
    assert advisor(*arguments) == 0


def test_probes_are_listed_and_never_proposed_to_be_gone_on_with(
    billed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    advisor("estimate", billed, "--probe", "1", "--yes", "--workspace", tmp_path / "w", "--quiet")
    capsys.readouterr()
    assert advisor("runs", "--workspace", tmp_path / "w") == 0
    shown = capsys.readouterr().out
    assert "probe" in shown
    assert "--resume" not in shown
    assert "advisor run SCENARIO" in shown
