"""Which state of a tuned model is kept: the one that the task's own score on dev likes best."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from advisor.techniques.base import FitContext
from backends.errors import BackendUnavailable
from backends.types import TunedModel
from backends.wording import counted
from evals.runner import Solve
from evals.splits import shared_order
from evals.task import Sample
from evals.trial import Trial

_MOST_DEV = 200
Tried = Callable[[str, Path, Solve, Sequence[Sample]], Awaitable[list[Trial]]]


async def best_checkpoint(model: TunedModel, solve: Solve, dev: Sequence[Sample], context: FitContext) -> TunedModel:
    """The final state, unless an earlier one that can be asked scores higher on dev; the model as it is without any.

    Losses say how sure a model is of the right words, not whether its answers are right. Ties go to the later state.
    """
    if not model.checkpoints or not dev or context.tuned_trials is None:
        return model
    samples = shared_order(dev, context.seed)[:_MOST_DEV]
    scores: dict[str, float] = {}
    names = (model.name, *reversed(model.checkpoints))
    for done, name in enumerate(names):
        context.note("states of the model", done, len(names))
        score = await _score(name, model, context.tuned_trials, solve, samples)
        if score is not None:
            scores[name] = score
    best = max(scores, key=lambda name: scores[name], default=model.name)
    told = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    judged = counted(len(samples), "dev sample")
    note = f"Of {len(scores)} states of the model the one with the best score on {judged} is used"
    note = f"{note}: {told}."
    return replace(model, name=best, checkpoints=(), notes=(*model.notes, note))


async def _score(name: str, model: TunedModel, tried: Tried, solve: Solve, samples: Sequence[Sample]) -> float | None:
    """Mean over the samples that were answered; None for a state that is gone."""
    try:
        trials = await tried(name, model.folder, solve, samples)
    except BackendUnavailable:
        if name == model.name:
            raise
        return None
    found = [trial.score.value for trial in trials if trial.score is not None]
    return sum(found) / len(found) if found else None
