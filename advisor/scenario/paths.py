"""Paths in a scenario: relative to its folder, with `${NAME}` and `${NAME:-default}` from the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path

from backends.errors import InputError, Problem

FILE_NAME = "scenario.yaml"
"""The file that a folder stands for where a scenario is named."""
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def resolve(text: str, folder: Path, place: str) -> Path:
    """The path a scenario means. Raises InputError at `place` for a variable that is not set.

    A relative path counts from the scenario's folder, a variable's relative value from the current one, as in a shell.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        found = os.environ.get(name)
        if found:
            return str(Path(found).absolute()) if match.start() == 0 else found
        if default is None:
            remedy = f"Set it, or write a default: ${{{name}:-PATH}}."
            raise InputError(Problem(place, f"the environment variable {name} is not set.", remedy))
        return default

    return folder / os.path.expanduser(_VARIABLE.sub(value, text))


def shown(path: Path, folder: Path) -> str:
    """A path as problems name it: short inside the scenario's folder, in full elsewhere."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else os.path.normpath(path)
