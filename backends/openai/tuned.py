"""`tuned.json` in the folder of a job: which model at the endpoint it made. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends.errors import BackendUnavailable, InputError, Problem
from backends.local.files import write_text
from backends.local.tuned import FILE, read_tuned
from backends.types import TunedModel


def read_finished(folder: Path, key: str) -> TunedModel | None:
    """The model of the job of this key, when the folder holds it. Raises InputError when it holds another."""
    record = read_tuned(folder)
    if record is None:
        return None
    if record.get("key") != key:
        what = f"holds another model, {record.get('name')!r}."
        raise InputError(Problem(str(folder), what, "Give another folder."))
    known = {name: record[name] for name in ("name", "trained_tokens", "seconds", "cost_usd", "recipe")}
    for name in ("losses", "dev_losses"):
        known[name] = tuple((step, loss) for step, loss in record[name])
    for name in ("checkpoints", "notes"):
        known[name] = tuple(record[name])
    return TunedModel(folder=folder, cached=True, hosted=True, **known)


def write_finished(tuned: TunedModel, record: Mapping[str, Any]) -> None:
    """Write the file, whose presence means that the job is done. Raises BackendUnavailable."""
    fields = {name: value for name, value in asdict(tuned).items() if name not in {"folder", "cached", "hosted"}}
    try:
        tuned.folder.mkdir(parents=True, exist_ok=True)
        write_text(tuned.folder / FILE, json.dumps({**fields, **record}, indent=1, ensure_ascii=False))
    except OSError as error:
        raise BackendUnavailable(
            f"cannot write to {str(tuned.folder)!r}: {error}. The model is {tuned.name}; free some space, then go on "
            "with --resume."
        ) from error


def base_of(folder: Path | None) -> str | None:
    """The endpoint's name of the model that was tuned in this folder; None where none was."""
    record = None if folder is None else read_tuned(folder)
    base = str(record.get("base", "")) if record is not None else ""
    return base.partition("/")[2] or None


def start_problem(base: str, recipe: Mapping[str, Any], folder: Path) -> Problem | None:
    """What keeps a training of `base` from going on from the model that was tuned in `folder`, or None."""
    record = read_tuned(folder)
    if record is None or "/" not in str(record.get("name")):
        return Problem(str(folder), "there is no finished tuned model.", "Tune it again, or start with --from base.")
    if record.get("base") != base:
        what = f"{record['name']!r} was tuned from {record.get('base')!r} and not from {base!r}."
        return Problem("fine_tune.base", what, "Tune that base again, or start afresh with --from base.")
    return None


def model_to_start_from(base: str, folder: Path | None) -> str:
    """Name of the model that a job trains: the base, or the one tuned in `folder`. Raises InputError."""
    if folder is None:
        return base
    problem = start_problem(base, {}, folder)
    if problem is not None:
        raise InputError(problem)
    record = read_tuned(folder)
    assert record is not None
    return str(record["name"])
