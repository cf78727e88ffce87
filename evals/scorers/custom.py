"""A scorer of the user's own: `file.py:function`, loaded from the scenario's folder. It runs with the user's rights."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from backends.errors import InputError, Problem
from evals.scorers.base import ScorerError
from evals.task import Sample
from evals.trial import Score


@dataclass(frozen=True, slots=True)
class Custom:
    """Asks `function(output, sample)` for a bool, a number in [0, 1] or a Score."""

    name: str
    """`file.py:function`."""
    function: Callable[[str, Sample], Any]
    binary: bool
    """True when the function says that it returns a bool, or the scenario does; other values are then an error."""

    def __call__(self, output: str, sample: Sample) -> Score:
        """Score the answer. Raises ScorerError when the function fails or returns no score."""
        try:
            result = self.function(output, sample)
        except (Exception, SystemExit) as problem:  # the user's code: whatever it raises, its name must be told
            raise ScorerError(f"{self.name} raised {type(problem).__name__}: {problem}") from problem
        if isinstance(result, Score):
            score = result
        elif isinstance(result, bool | int | float) and 0 <= result <= 1:
            score = Score(float(result))
        else:
            raise ScorerError(f"{self.name} returned {result!r} instead of a bool, a number from 0 to 1 or a Score")
        if self.binary and score.value not in (0, 1):
            raise ScorerError(f"{self.name} returned {score.value!r}, but was declared to return only 0 and 1")
        return score


def load_custom(spec: str, folder: Path, binary: bool | None = None) -> Custom:
    """Load `file.py:function`. Raises InputError naming what is wrong with it."""
    filename, _, function_name = spec.rpartition(":")
    path = folder / filename
    if not path.is_file():
        what = f"scorer {spec!r}: there is no file {filename!r} in {folder}."
        raise InputError(Problem("scorer", what, "Check the name; it counts from the scenario's folder."))
    module = _load(path, filename)
    function = getattr(module, function_name, None)
    if not inspect.isfunction(function):
        own = [value for value in vars(module).values() if inspect.isfunction(value)]
        names = [value.__name__ for value in own if value.__module__ == module.__name__]
        found = f"It has {', '.join(names)}." if names else "Define it."
        raise InputError(Problem("scorer", f"scorer {spec!r}: {filename} has no function {function_name!r}.", found))
    if fault := _signature_fault(function):
        remedy = f"Write: def {function_name}(output: str, sample: Sample) -> float."
        raise InputError(Problem(_place(function, filename), f"the scorer {function_name} {fault}.", remedy))
    if binary is None:
        binary = function.__annotations__.get("return") in (bool, "bool")
    return Custom(spec, function, binary)


def _signature_fault(function: Callable[..., Any]) -> str | None:
    if inspect.iscoroutinefunction(function):
        return "is async, but scorers are called directly"
    try:
        inspect.signature(function).bind("", None)
    except TypeError:
        return "cannot be called with (output, sample)"
    return None


def _place(function: Callable[..., Any], filename: str) -> str:
    return f"{filename}:{function.__code__.co_firstlineno}"


class _Loader(importlib.machinery.SourceFileLoader):
    """Leaves no __pycache__ in the user's folder."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write nothing."""


def _load(path: Path, filename: str) -> ModuleType:
    name = f"_scorer_{path.stem}"
    spec = importlib.util.spec_from_loader(name, _Loader(name, str(path)))
    if spec is None:
        raise InputError(Problem(filename, "Python cannot load this file.", "Give it a name that ends in .py."))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up by name
    try:
        _Loader(name, str(path)).exec_module(module)
    except SyntaxError as problem:
        place = f"{filename}:{problem.lineno}" if problem.lineno else filename
        raise InputError(Problem(place, f"broken Python: {problem.msg}.", "Correct the file.")) from None
    except (Exception, SystemExit) as problem:  # importing runs the user's code
        what = f"importing it raised {type(problem).__name__}: {problem}."
        raise InputError(Problem(filename, what, "Correct the file.")) from problem
    return module
