"""Imports of optional packages at the last moment, with the command that installs what is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from backends.errors import InputError, Problem


def require(module: str, extra: str) -> ModuleType:
    """Import one of our leaf modules, or say which extra its packages come with. Raises InputError."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in {"advisor", "backends", "evals"}:
            raise
        raise InputError(
            Problem(
                module,
                f"needs the package {error.name!r}, which is not installed.",
                f"Run: pip install 'cheapest-llm-advisor[{extra}]'",
            )
        ) from error
