"""`tuned.json`: what a finished tuning wrote beside its adapter. Its presence means the adapter is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends.local.files import read_json

FILE = "tuned.json"


def read_tuned(folder: Path) -> dict[str, Any] | None:
    """The record of a finished tuning, None when there is none."""
    record = read_json(folder / FILE)
    return record if isinstance(record, dict) else None
