"""`--json FILE`: checked before the work, written after it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from backends.errors import InputError, Problem


def check_json(path: Path | None) -> None:
    """A place that cannot be written must be found before the run, not after it."""
    if path is not None and (path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK)):
        raise InputError(Problem(str(path), "cannot be written.", "Name a file in a folder that exists."))


def write_json(path: Path | None, found: Any) -> None:
    """Write what was found as JSON, where a file was named. Raises InputError when it cannot be written."""
    if path is None:
        return
    try:
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(Problem(str(path), f"cannot be written: {error.strerror}.", "Choose another file.")) from error
