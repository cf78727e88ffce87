"""All techniques by name. Importing this is cheap: what is heavy waits in leaf modules."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import TypeAdapter, ValidationError

from advisor.techniques import inner
from advisor.techniques.base import Fitted, Technique, read_state
from advisor.techniques.cascade import Cascade
from advisor.techniques.fine_tune import FineTune
from backends.errors import InputError, Problem


class _TechniqueClass(Protocol):
    """What the registry holds: a constructor of keyword hyperparameters."""

    name: str
    fitted: type[Fitted]

    def __call__(self, **parameters: Any) -> Technique: ...


_CLASSES: tuple[Any, ...] = (*inner.CLASSES, Cascade, FineTune)
_TECHNIQUES: dict[str, _TechniqueClass] = {technique.name: technique for technique in _CLASSES}


def names() -> list[str]:
    """All technique names, cheapest idea first."""
    return list(_TECHNIQUES)


def problems(name: str, parameters: Mapping[str, Any]) -> list[str]:
    """What is wrong with a technique as a scenario names it; empty when it can be made."""
    if name not in _TECHNIQUES:
        near = difflib.get_close_matches(name, _TECHNIQUES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(_TECHNIQUES)}."
        return [f"there is no technique {name!r}. {hint}"]
    fields = {field.name for field in dataclasses.fields(cast(Any, _TECHNIQUES[name]))}
    unknown = [parameter for parameter in parameters if parameter not in fields]
    if unknown:
        known = ", ".join(sorted(fields)) or "none"
        return [f"{name} has no parameter {parameter!r}; it has: {known}." for parameter in unknown]
    try:
        _built(name, parameters)
    except ValidationError as error:
        return [_complaint(name, details) for details in error.errors(include_url=False)]
    return []


def _built(name: str, parameters: Mapping[str, Any]) -> Technique:
    """Construct with the field types enforced; raises ValidationError."""
    adapter: TypeAdapter[Technique] = TypeAdapter(cast(Any, _TECHNIQUES[name]))
    return adapter.validate_python(dict(parameters))


def _complaint(name: str, details: Any) -> str:
    """One problem of a parameter, in words."""
    where = ".".join(str(part) for part in details["loc"])
    what = str(details["msg"]).removeprefix("Value error, ")
    return f"{name}.{where} is {details['input']!r}: {what}." if where else f"{name}: {what}."


def make(name: str, parameters: Mapping[str, Any]) -> Technique:
    """Make a technique. Raises InputError for what `problems` would list."""
    found = problems(name, parameters)
    if found:
        raise InputError([Problem("techniques", what, "") for what in found])
    return _built(name, parameters)


def load_fitted(folder: Path) -> Fitted:
    """Read a fitted technique back, of whatever kind it is."""
    return _TECHNIQUES[read_state(folder)["technique"]].fitted.load(folder)
