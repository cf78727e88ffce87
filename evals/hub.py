"""Reads rows of a data set on the Hugging Face hub: `hf:NAME[/CONFIG]@REVISION`, through the package `datasets`."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from backends.errors import Problem
from evals.data import Row, Table, plain_fields

_REFERENCE = re.compile(r"hf:(?P<name>[^/@\s]+(?:/[^/@\s]+)?)(?:/(?P<config>[^/@\s]+))?@(?P<revision>[^\s@]+)")
_SPLITS = {"train": "train", "dev": "validation", "test": "test", "all": "train"}
"""Which split of the data set each part of a scenario's `data` reads."""


@dataclass(frozen=True, slots=True)
class HubReference:
    """A data set at one revision, so that it cannot change under a run."""

    name: str
    """`OWNER/NAME`, or `NAME` alone."""
    config: str | None
    revision: str


def parse_reference(text: str) -> HubReference | None:
    """The parts of `hf:NAME[/CONFIG]@REVISION`; a CONFIG is only read after OWNER/NAME. None when it is none."""
    match = _REFERENCE.fullmatch(text)
    return HubReference(match["name"], match["config"], match["revision"]) if match else None


def read_hub(text: str, split: str) -> Table:
    """The rows of one split. What is wrong is in the table's problems; nothing is raised for it."""
    reference = parse_reference(text)
    if reference is None:
        return _failed(text, "this is not hf:NAME[/CONFIG]@REVISION.", "Write for instance hf:owner/name@main.")
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        return _failed(text, "data from the hub needs the package datasets.", "Run: pip install datasets.")
    try:
        data = datasets.load_dataset(
            reference.name, reference.config, split=_SPLITS[split], revision=reference.revision
        )
    except (OSError, ValueError, RuntimeError) as problem:
        fault = " ".join(str(problem).split())
        return _failed(text, f"split {_SPLITS[split]!r} cannot be loaded: {fault}", "Check name, revision and network.")
    named = {name: kind.names for name, kind in data.features.items() if getattr(kind, "names", None)}
    return Table(
        text, tuple(Row(number, plain_fields(_with_names(row, named))) for number, row in enumerate(data, start=1))
    )


def _with_names(row: dict[str, Any], named: dict[str, list[str]]) -> dict[str, Any]:
    """Class numbers as the names they stand for; the hub writes -1 where a class is not told."""
    return {**row, **{key: _name(names, row[key]) for key, names in named.items()}}


def _name(names: list[str], number: int | None) -> str | None:
    return None if number is None or number < 0 else names[number]


def _failed(where: str, what: str, remedy: str) -> Table:
    return Table(where, (), (Problem(where, what, remedy),))
