"""What `advisor init` prints: every guess with what to check, what was not taken over, what next."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from advisor.candidates import lineup
from advisor.cli.check import show_check
from advisor.cli.init import show_init
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides
from advisor.starting.columns import Wishes
from backends.errors import InputError
from tests.test_advisor_starting_sources import labelled, promptfoo, table


def shown(source: Path, into: Path, quiet: bool = False, width: int = 200) -> str:
    out = io.StringIO()
    show_init(Console(file=out, width=width), source, into, None, Wishes(), force=False, quiet=quiet)
    return out.getvalue()


def test_every_guess_is_told_with_what_to_check(tmp_path: Path) -> None:
    told = shown(table(tmp_path / "a.csv", ["text", "label"], labelled(60)), tmp_path / "made")
    assert f"{tmp_path / 'made'}: a scenario with 27 train, 9 dev, 24 test samples." in told
    assert "  labels        3 labels (60 rows have only 3 different targets" in told
    assert "check: Is the list complete?" in told
    assert f"advisor check {tmp_path / 'made'}" in told


def test_guesses_fold_at_80_columns_under_their_own_beginning(tmp_path: Path) -> None:
    told = shown(table(tmp_path / "a.csv", ["text", "label"], labelled(60)), tmp_path / "made", width=80)
    lines = told.split("Guessed")[1].split("power:")[0].splitlines()[1:]
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(" " * 16) for line in lines) > 5


def test_what_was_not_taken_over_is_told(tmp_path: Path) -> None:
    path = promptfoo(tmp_path)
    path.write_text(
        path.read_text("utf-8") + "  - {vars: {question: x}, assert: [{type: javascript, value: y}]}\n", "utf-8"
    )
    told = shown(path, tmp_path / "made")
    assert "Not taken over:" in told
    assert "An assertion `javascript`: it is code" in told


def test_quiet_tells_the_folder_only(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", ["text", "label"], labelled(60))
    assert shown(source, tmp_path / "made", quiet=True) == f"{tmp_path / 'made'}\n"


def test_the_page_beside_the_scenario_names_the_folder_in_its_commands(tmp_path: Path) -> None:
    made = tmp_path / "of mine"
    shown(table(tmp_path / "a.csv", ["text", "label"], labelled(60)), made)
    assert "advisor run 'of mine'" in (made / "README.md").read_text("utf-8")


def test_markup_in_the_data_is_text(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", ["[red]text", "[/]label"], labelled(60))
    assert "[red]text" in shown(source, tmp_path / "made")


def test_a_scenario_that_does_not_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advisor.starting.write.DEFAULT_MODEL", "local/nowhere-to-be-found")
    source = table(tmp_path / "a.csv", ["text", "label"], labelled(60))
    with pytest.raises(InputError, match="nowhere-to-be-found"):
        shown(source, tmp_path / "made")
    assert (tmp_path / "made" / "scenario.yaml").is_file(), "what was made stays, to be corrected"


def checked(folder: Path, *models: str) -> str:
    out = io.StringIO()
    show_check(Console(file=out, width=200), folder, Overrides(models=models or None), quiet=False)
    return out.getvalue()


def test_what_was_made_is_in_order_with_local_and_with_hosted_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    shown(table(tmp_path / "a.csv", ["text", "label"], labelled(600)), tmp_path / "made")
    own = checked(tmp_path / "made")
    assert "is in order." in own
    assert "if needed: fine_tune@local/" in own
    hosted = checked(tmp_path / "made", "openai/gpt-4.1-mini")
    assert "is in order." in hosted
    assert "if needed" not in hosted
    assert "out: fine_tune, because fine_tune.backend is local, which can train none of the models" in hosted


def test_a_tuning_that_is_asked_for_and_cannot_be_says_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    shown(table(tmp_path / "a.csv", ["text", "label"], labelled(60)), tmp_path / "made")
    path = tmp_path / "made" / "scenario.yaml"
    path.write_text(path.read_text("utf-8") + "fine_tune: {when: always}\n", "utf-8")
    scenario = load_scenario(path, Overrides(models=("openai/gpt-4.1-mini",)))
    with pytest.raises(InputError, match=r"Set base to a model of local/\.\.\. or set fine_tune\.when to never\."):
        lineup(scenario)


def test_instructions_that_nobody_has_written_yet_are_noted(tmp_path: Path) -> None:
    shown(table(tmp_path / "a.csv", ["text", "label"], labelled(60)), tmp_path / "made")
    assert "note: instructions are still the TODO that init wrote" in checked(tmp_path / "made")
    path = tmp_path / "made" / "scenario.yaml"
    path.write_text(path.read_text("utf-8").replace("TODO: say what is to be done.", "Sort the message."), "utf-8")
    told = checked(tmp_path / "made")
    assert "is in order." in told
    assert "TODO" not in told
