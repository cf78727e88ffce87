"""The workspace folder: one run at a time, one folder a run, adapters shared by all runs."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backends.errors import InputError, Problem, WorkspaceError
from evals.trial import whole_characters


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where runs live. Folders are made when something is first written."""

    root: Path

    @property
    def adapters(self) -> Path:
        """Tuned models, one folder each, named by the hash of data and recipe."""
        return self.root / "adapters"

    @property
    def indexes(self) -> Path:
        """Indexes of documents, one folder each, named by the hash of what they hold."""
        return self.root / "indexes"

    @property
    def batches(self) -> Path:
        """Batches of requests that were sent to providers, and what came back."""
        return self.root / "batches"

    def run_folder(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.root / "runs" / run_id

    def fitted_folder(self, run_id: str, candidate: str) -> Path:
        """Where a fitted candidate of a run is kept."""
        return self.run_folder(run_id) / "fitted" / slug(candidate)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the workspace for one run. Raises InputError when another process holds it."""
        path = self.root / "lock"
        with explained(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            handle = path.open("a+", encoding="utf-8")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                handle.seek(0)
                holder = handle.read().strip() or "unknown"
                raise InputError(
                    Problem(
                        str(self.root),
                        f"another run (process {holder}) is using this workspace.",
                        "Wait for it to end, or choose another folder with --workspace.",
                    )
                ) from error
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield

    def is_locked(self) -> bool:
        """Whether a run holds the workspace at this moment."""
        path = self.root / "lock"
        if not path.is_file():
            return False
        with path.open("r", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def freeze(self, run_id: str, files: Sequence[Path]) -> None:
        """Copy the scenario's files into the run's folder, with their hashes. Raises WorkspaceError."""
        folder = self.run_folder(run_id) / "scenario"
        hashes: dict[str, str] = {}
        with explained(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            for number, path in enumerate(files):
                name = path.name if path.name not in hashes else f"{number}-{path.name}"
                shutil.copyfile(path, folder / name)
                hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            (folder / "hashes.json").write_text(json.dumps(hashes, indent=1), encoding="utf-8")

    def write(self, path: Path, text: str) -> None:
        """Write a file whole or not at all; halves of characters are replaced. Raises WorkspaceError."""
        with explained(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(path.name + ".part")
            unfinished.write_text(whole_characters(text), encoding="utf-8")
            unfinished.replace(path)


def new_run_id() -> str:
    """A run id that sorts by time and that nobody else has: `20261123-101530-4f2a`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def slug(candidate: str) -> str:
    """A candidate's id as a folder name, without clashes."""
    readable = re.sub(r"[^\w.@-]+", "-", candidate)
    return f"{readable}-{hashlib.sha256(candidate.encode()).hexdigest()[:6]}"


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn a failed write into one message: what failed and what to do."""
    try:
        yield
    except OSError as error:
        raise WorkspaceError(
            f"{error.filename or root}: {error.strerror}. Free space or make it writable, or choose another folder "
            "with --workspace; a run that was interrupted goes on with --resume."
        ) from error
