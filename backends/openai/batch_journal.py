"""What is known of batches on this machine: written before and after each act, so that none is sent twice.

One batch is three files: NONCE.json says how far it is, NONCE.jsonl holds its requests, NONCE.answers.jsonl its
answers. The nonce is also in the batch's metadata, so that a batch is found at the endpoint when the process was
killed before its id was written here.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from backends.errors import BackendUnavailable
from backends.local.files import make_folder, read_json, write_text

_KEPT_SECONDS = 30 * 86400.0
"""Batches end after a day, and their answers are in the store soon after."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How far a batch has come."""

    nonce: str
    place: str
    """Address, path and model that its requests are for."""
    names: tuple[str, ...]
    """Names of its requests; they are their `custom_id`s."""
    file: str | None = None
    """The endpoint's id of the uploaded requests."""
    creating: bool = False
    """True from before the batch is created: it may exist."""
    batch: str | None = None
    """The endpoint's id of the batch."""
    ended: bool = False
    """True when its answers are here."""


class Journal:
    """The batches of one model at one endpoint. Raises BackendUnavailable where the folder cannot be written."""

    def __init__(self, folder: Path, place: str) -> None:
        self._folder = folder
        self._place = place

    def entries(self) -> Iterator[Entry]:
        """The batches that are remembered, the oldest first; what is older than any use is deleted."""
        files = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
        for path in files:
            entry = _entry(read_json(path))
            if entry is None or entry.place != self._place:
                continue
            if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                self.forget(entry)
            else:
                yield entry

    def begin(self, names: Sequence[str], lines: bytes) -> Entry:
        """Remember requests that are about to be sent."""
        nonce = f"advisor-{time.time_ns():020d}-{secrets.token_hex(4)}"
        entry = self.change(Entry(nonce, self._place, tuple(names)))
        self._write(self._requests(entry), lines.decode())
        return entry

    def change(self, entry: Entry, **fields: Any) -> Entry:
        """Write a change; returns the entry as it is now."""
        changed = replace(entry, **fields)
        self._write(self._folder / f"{entry.nonce}.json", json.dumps(asdict(changed), indent=1))
        return changed

    def end(self, entry: Entry, answers: bytes) -> Entry:
        """Remember the answers of a batch that has come to its end."""
        self._write(self._answers(entry), answers.decode("utf-8", "replace"))
        return self.change(entry, ended=True)

    def requests(self, entry: Entry) -> bytes:
        """The requests of a batch, as they are sent."""
        return self._requests(entry).read_bytes()

    def answers(self, entry: Entry) -> bytes:
        """The answers of a batch that has ended; empty when somebody deleted them."""
        path = self._answers(entry)
        return path.read_bytes() if path.is_file() else b""

    def forget(self, entry: Entry) -> None:
        """Delete everything about a batch."""
        for path in (self._folder / f"{entry.nonce}.json", self._requests(entry), self._answers(entry)):
            path.unlink(missing_ok=True)

    def _requests(self, entry: Entry) -> Path:
        return self._folder / f"{entry.nonce}.jsonl"

    def _answers(self, entry: Entry) -> Path:
        return self._folder / f"{entry.nonce}.answers.jsonl"

    def _write(self, path: Path, text: str) -> None:
        try:
            write_text(make_folder(path.parent) / path.name, text)
        except OSError as error:
            raise BackendUnavailable(
                f"cannot write to {str(self._folder)!r}: {error}. Free some space, then go on with --resume; a batch "
                "that was sent is found again."
            ) from error


def _entry(record: Any) -> Entry | None:
    """The entry of a file, None for one of another kind."""
    if not isinstance(record, dict) or set(record) != set(Entry.__dataclass_fields__):
        return None
    return Entry(**{**record, "names": tuple(record["names"])})
