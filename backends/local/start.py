"""Whether a training can go on from a model that was tuned before. Reads no weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.errors import InputError, Problem
from backends.local.catalog import locate
from backends.local.files import hash_of, sha256_of
from backends.local.identity import content_hash
from backends.local.recipe import Recipe
from backends.local.tuned import read_tuned

_AFRESH = "start afresh with --from base."


def problem(base: str, recipe: Mapping[str, Any], folder: Path) -> Problem | None:
    """What keeps a training of `base` from going on from the tuned model in `folder`, or None."""
    try:
        check(base, Recipe.parse(recipe), content_hash(locate(base)), folder)
    except InputError as error:
        return error.problems[0]
    return None


def check(base: str, recipe: Recipe, base_content: str, folder: Path) -> None:
    """Raise InputError where a training cannot go on from `folder`: another base, another shape, files that are gone.

    Args:
        base: Name of the model to tune.
        recipe: Of the training to come.
        base_content: Hash of the base's weights, tokenizer and template.
        folder: Of a finished tuning.
    """
    record = read_tuned(folder)
    if record is None or not any(folder.glob("*.safetensors")):
        raise _refused(str(folder), "there is no finished tuned model.", f"Tune it again, or {_AFRESH}")
    name = record.get("name")
    if record.get("base_content") != base_content:
        what = f"{name!r} was trained on {record.get('base')!r}; {base!r} has other weights, so it means nothing there."
        raise _refused("fine_tune.base", what, f"Tune that base again, or {_AFRESH}")
    before, now = _recipe(record).shape, recipe.shape
    changed = [key for key in before if before[key] != now.get(key)]
    changed = ["method"] if "method" in changed else changed
    if changed:
        told = ", ".join(f"{key} is {now.get(key)!r} here and {before[key]!r} there" for key in changed)
        remedy = f"Write {', '.join(f'{key}: {_written(before[key])}' for key in changed)}, or {_AFRESH}"
        raise _refused("fine_tune recipe", f"{name!r} has another shape: {told}.", remedy)


def weights_hash(folder: Path) -> str:
    """Hash of the weights that a training goes on from."""
    return hash_of([[path.name, sha256_of(path)] for path in sorted(folder.glob("*.safetensors"))])


def _recipe(record: Mapping[str, Any]) -> Recipe:
    known = {field.name for field in dataclasses.fields(Recipe)}
    said = {key: value for key, value in record["recipe"].items() if key in known}
    targets = said.get("targets", "all")
    return Recipe(**said | {"targets": targets if isinstance(targets, str) else tuple(targets)})


def _written(value: Any) -> str:
    """A value as YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)


def _refused(where: str, what: str, remedy: str) -> InputError:
    return InputError(Problem(where, what, remedy))
