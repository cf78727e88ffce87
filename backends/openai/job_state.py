"""What is known of a job on this machine: a small file in its folder, written before and after each act.

It is a hint. What the endpoint lists under the job's key is the truth, and is looked at before anything is done twice.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from backends.errors import BackendUnavailable
from backends.local.files import read_json, write_text

FILE = "job.json"


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job has come."""

    key: str
    """Hash of base, data, recipe and seed."""
    place: str
    """Address of the endpoint."""
    train_file: str | None = None
    dev_file: str | None = None
    creating: bool = False
    """True from before the job is created: it may exist."""
    job: str | None = None
    """The endpoint's id of the job."""
    ended: bool = False
    """True when the job came to an end and nothing of it goes on."""

    @classmethod
    def read(cls, folder: Path, key: str, place: str) -> Self:
        """The state of the job of this key; a fresh one where there is none that can be read."""
        record: Any = read_json(folder / FILE)
        if isinstance(record, dict) and record.get("key") == key and set(record) == set(cls.__dataclass_fields__):
            return cls(**record)
        return cls(key, place)

    @property
    def is_ours(self) -> bool:
        """Whether a job of this key may have been created from this folder."""
        return self.creating or self.job is not None


class StateFile:
    """Keeps the state of one job, in memory and on disk."""

    def __init__(self, folder: Path, key: str, place: str) -> None:
        self._folder = folder
        self.now = JobState.read(folder, key, place)

    def change(self, **fields: Any) -> None:
        """Write a change; raises BackendUnavailable where the folder cannot be written."""
        self.now = replace(self.now, **fields)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(self._folder / FILE, json.dumps(asdict(self.now), indent=1))
        except OSError as error:
            raise BackendUnavailable(
                f"cannot write to {str(self._folder)!r}: {error}. Free some space, then go on with --resume; a job "
                "that was created is found again."
            ) from error
