"""The user's cache folder: where it is, files that appear whole or not at all, and hashes that are computed once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from backends.errors import BackendUnavailable


def cache_folder() -> Path:
    """Folder for what is made once per machine: converted models, measured rates, hashes of files."""
    return Path(os.environ.get("ADVISOR_CACHE") or "~/.cache/advisor").expanduser()


def make_folder(folder: Path) -> Path:
    """Create the folder if needed, or say what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendUnavailable(
            f"cannot create {str(folder)!r}: {error}. Set ADVISOR_CACHE to a folder that can be written."
        ) from error
    return folder


def write_text(path: Path, text: str, *, replace: bool = True) -> None:
    """Write the file whole or not at all; with `replace=False` a file that is there already stays."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(temporary).replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                Path(path).hardlink_to(temporary)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The file's JSON, or None when there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def sha256_of(path: Path) -> str:
    """Hash of the file's content, remembered in the cache until size, times or inode change."""
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    memo = cache_folder() / "hashes" / f"{key}.json"
    known = read_json(memo)
    if isinstance(known, dict) and known.get("stamp") == stamp:
        return str(known["sha256"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Only a shortcut: a cache that cannot be written costs time, not the answer.
    with contextlib.suppress(OSError, BackendUnavailable):
        make_folder(memo.parent)
        write_text(memo, json.dumps({"path": str(path), "stamp": stamp, "sha256": digest}))
    return digest


def hash_of(value: Any) -> str:
    """Hash of a JSON value, the same for equal values."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
