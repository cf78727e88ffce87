"""What a run left behind beyond its report: trials, samples, their order, and the conversations that were had."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from advisor.diagnosis.case import threshold
from advisor.goal import Goal
from advisor.scenario.model import Scenario
from backends.types import ChatResponse
from evals.splits import shared_order
from evals.store import Store
from evals.task import Sample, Split
from evals.trial import FITTING, RETENTION, Trial


@dataclass(frozen=True, slots=True)
class Conversation:
    """One request as it was sent, and its answer."""

    messages: tuple[tuple[Any, ...], ...]
    """Role, content, and for turns with tools the calls [id, name, arguments] and the id of the call answered."""
    settings: Mapping[str, Any]
    """Everything else in the request that can change the answer."""
    answer: ChatResponse


@dataclass(frozen=True)
class Evidence:
    """What the pictures and the sample explorer rest on."""

    trials: tuple[Trial, ...]
    """Of all candidates; without those by which techniques chose their settings."""
    samples: Mapping[tuple[Split, str], Sample]
    """By split and id; empty where the scenario is not at hand any more."""
    order: tuple[Sample, ...]
    """The test samples as candidates saw them; empty where the scenario is not at hand."""
    labels: tuple[str, ...]
    binary: bool
    """Whether every score is 0 or 1."""
    right_from: float
    """Score from which an answer counts as right."""
    conversation: Callable[[str], Conversation | None]
    """The conversation behind a response key, None when the store does not have it."""

    def of(self, candidate: str, variant: str = "") -> list[Trial]:
        """A candidate's trials on test samples, in the order in which they were drawn where that is known."""
        found = [one for one in self.trials if (one.candidate, one.split, one.variant) == (candidate, "test", variant)]
        place = {sample.id: at for at, sample in enumerate(self.order)}
        return sorted(found, key=lambda trial: place.get(trial.sample_id, len(place)))

    def right(self, trial: Trial) -> bool:
        """Whether the answer counts as right."""
        return trial.score is not None and trial.score.value >= self.right_from


def gather(store: Store, run_id: str, goal: Goal, scenario: Scenario | None) -> Evidence:
    """The evidence of a run; the store stays in use. Without a scenario there is what the store knows."""
    aside = (FITTING, RETENTION)
    trials = tuple(one for one in store.trials(run_id) if not one.variant.startswith(aside))
    task = None if scenario is None else scenario.task
    binary = all(one.score is None or one.score.value in {0.0, 1.0} for one in trials)
    splits: tuple[Split, ...] = ("train", "dev", "test")
    return Evidence(
        trials=trials,
        samples={} if task is None else {(name, one.id): one for name in splits for one in task.split(name)},
        order=() if scenario is None else shared_order(scenario.task.test, scenario.seed),
        labels=() if task is None else task.labels,
        binary=binary if scenario is None else scenario.scorer.binary,
        right_from=threshold(scenario.scorer, goal) if scenario else 1.0 if binary else goal.target,
        conversation=lambda key: _conversation(store, key),
    )


def _conversation(store: Store, key: str) -> Conversation | None:
    request, answer = store.request(key), store.response(key)
    if request is None or answer is None:
        return None
    settings = json.loads(request)
    messages = tuple(tuple(message) for message in settings.pop("messages"))
    return Conversation(messages, {name: value for name, value in settings.items() if value not in (None, [])}, answer)
