"""Techniques as parts of a cascade: made by name, fitted on a model of their own, saved in folders of their own."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from advisor.techniques.base import FitContext, Fitted, Technique, read_state
from advisor.techniques.chain import Chain
from advisor.techniques.few_shot import FewShot
from advisor.techniques.function_calling import FunctionCalling
from advisor.techniques.knn_few_shot import KnnFewShot
from advisor.techniques.optimized_prompt import OptimizedPrompt
from advisor.techniques.rag import Rag
from advisor.techniques.rag_chain import RagChain
from advisor.techniques.rag_few_shot import RagFewShot
from advisor.techniques.self_consistency import SelfConsistency
from advisor.techniques.structured_output import StructuredOutput
from advisor.techniques.zero_shot import ZeroShot
from backends.aside import asides
from backends.meter import Meter
from evals.runner import Solve
from evals.task import Sample, Task
from evals.trial import Trial

CLASSES: tuple[Any, ...] = (
    ZeroShot,
    StructuredOutput,
    FewShot,
    KnnFewShot,
    Rag,
    RagFewShot,
    FunctionCalling,
    OptimizedPrompt,
    SelfConsistency,
    Chain,
    RagChain,
)
"""All that train nothing and are no cascade themselves, cheapest idea first."""
_PARTS: dict[str, Any] = {technique.name: technique for technique in CLASSES}


def names() -> list[str]:
    """Names of the techniques that can be part of another: all that train nothing and are no cascade themselves."""
    return list(_PARTS)


def make(name: str) -> Technique:
    """A technique with its default hyperparameters. Raises ValueError for a name that cannot be part of another."""
    if name not in _PARTS:
        near = difflib.get_close_matches(name, _PARTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_PARTS)}"
        raise ValueError(f"{name!r} cannot be part of a cascade; {hint}")
    technique: Technique = _PARTS[name]()
    return technique


async def fit(name: str, task: Task, context: FitContext, role: str, on: str | None) -> Fitted:
    """Fit a technique on the model `on`; what it tries on dev is named after its role."""

    async def trials(choice: str, solve: Solve, samples: Sequence[Sample]) -> list[Trial]:
        return await context.trials(f"{role}: {choice}", elsewhere(solve, on), samples)

    with asides(context.models, on=on) as (models,):
        return await make(name).fit(task, replace(context, models=models, trials=trials))


def elsewhere(solve: Solve, on: str | None) -> Solve:
    """The same work with another model in place of the candidate's own."""

    async def solved(sample: Sample, models: Meter) -> str:
        with asides(models, on=on) as (part,):
            return await solve(sample, part)

    return solved


def save(fitted: Fitted, folder: Path) -> None:
    """Write a fitted part into a new folder."""
    folder.mkdir()
    fitted.save(folder)


def load(folder: Path) -> Fitted:
    """Read what save wrote."""
    fitted: Fitted = _PARTS[read_state(folder)["technique"]].fitted.load(folder)
    return fitted
