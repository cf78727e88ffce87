"""What is found while a scenario is checked: problems, warnings, and the files it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from advisor.scenario.document import Document
from advisor.scenario.paths import resolve, shown
from backends.errors import InputError, Problem


@dataclass
class Findings:
    """Collects, so that everything is told at once."""

    document: Document
    folder: Path
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def problem(self, path: Sequence[str | int], what: str, remedy: str) -> None:
        """Something is wrong with a key of the scenario."""
        self.problems.append(Problem(self.document.place(path), what, remedy))

    def path(self, key: Sequence[str], text: str) -> Path | None:
        """The path a key means; a problem and None when there is nothing."""
        place = self.document.place(key)
        try:
            path = resolve(text, self.folder, place)
        except InputError as error:
            self.problems += error.problems
            return None
        if path.exists():
            return path
        what = f"{'.'.join(key)}: {shown(path, self.folder)} does not exist."
        self.problem(key, what, "Check the name; it counts from the scenario's folder.")
        return None

    def file(self, key: Sequence[str], text: str) -> Path | None:
        """The file a key means, remembered as one the scenario rests on; a problem and None when there is none."""
        path = self.path(key, text)
        if path is None:
            return None
        if not path.is_file():
            self.problem(key, f"{'.'.join(key)}: {shown(path, self.folder)} is no file.", "Name a file.")
            return None
        self.files.append(path)
        return path

    def in_order(self) -> list[Problem]:
        """The problems of the scenario file by line, then the others as they were found."""

        def order(problem: Problem) -> tuple[bool, int]:
            file, _, line = problem.where.rpartition(":")
            inside = file == self.document.where
            return not inside, int(line) if inside else 0

        return sorted(self.problems, key=order)
