"""The workspace folder: a file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor.workspace import Workspace
from backends.errors import WorkspaceError


def test_a_report_is_not_lost_to_half_a_character(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "r" / "report.md"
    Workspace(tmp_path).write(path, "naïve \ud83d, whole \ud83d\ude00\n")
    assert path.read_text("utf-8") == "naïve \ufffd, whole \U0001f600\n"
    assert [file.name for file in path.parent.iterdir()] == ["report.md"]


def test_a_file_that_cannot_be_written_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    Workspace(tmp_path).write(path, "old")
    (tmp_path / "report.md.part").mkdir()
    with pytest.raises(WorkspaceError, match=r"report\.md\.part"):
        Workspace(tmp_path).write(path, "new")
    assert path.read_text("utf-8") == "old"
