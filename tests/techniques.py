"""The battery that every technique passes, and a bench on which a test can fit one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advisor.techniques import registry
from advisor.techniques.base import FitContext, Fitted
from backends.meter import Helpers, Meter
from backends.scripted import ScriptedChat, ScriptedEmbedder, ScriptedTuner
from backends.scripted_rerank import ScriptedReranker
from backends.types import ChatRequest, ChatResponse, Tool
from evals.runner import Runner, Solve, Work
from evals.scorers.base import AnyScorer
from evals.scorers.text import Exact
from evals.store import RunRow, Store
from evals.task import Document, Sample, Task, Toolbox
from evals.trial import FITTING, Trial
from tests import toys


class CountingChat(ScriptedChat):
    """Counts requests and keeps prompts, where no technique can hide them."""

    def __init__(self, name: str, script: dict[str, Any]) -> None:
        super().__init__(name, script)
        self.requests: list[ChatRequest] = []

    @property
    def prompts(self) -> list[str]:
        return ["\n".join(message.content for message in request.messages) for request in self.requests]

    async def complete(self, request: ChatRequest) -> ChatResponse:
        self.requests.append(request)
        return await super().complete(request)


def samples(split: str, n: int) -> tuple[Sample, ...]:
    return tuple(Sample(row["id"], row["input"], row["target"]) for row in toys.rows(split, n))


DOCUMENTS = tuple(
    Document(label, f"Words of the {label} kind: {', '.join(words)}.", title=label.title())
    for label, words in toys.WORDS.items()
)
TOOLS = Toolbox(
    (
        Tool(
            "look_up",
            "Say of which kind a word is.",
            json.dumps({"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}),
        ),
    )
)
TASK = Task(
    "toy",
    "Sort the message.",
    samples("train", 30),
    samples("dev", 6),
    samples("test", 9),
    tuple(toys.LABELS),
    documents=DOCUMENTS,
    tools=TOOLS,
)
"""A task on which every technique can be fitted: labels, documents and tools."""


@dataclass
class Bench:
    """Scripted models and a store in a folder: what a session gives a technique, without a scenario."""

    folder: Path
    script: dict[str, Any] = field(default_factory=lambda: {"rules": toys.rules(1.0)})
    scripts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scripts of other models by name; one that is not listed answers by `script`."""
    scorer: AnyScorer = field(default_factory=Exact)
    tried: list[Trial] = field(default_factory=list)
    notes: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chats = {"scripted/count": CountingChat("scripted/count", self.script)}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._store = Store.open(self.folder / "advisor.db")
        if not self._store.runs():
            self._store.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
        self._runner = Runner(self._store, "r", self.scorer, self.tried.append)
        self.fitting = self.meter()

    @property
    def chat(self) -> CountingChat:
        """The candidate's own model."""
        return self.chats["scripted/count"]

    @property
    def requests(self) -> int:
        """Requests to all models so far."""
        return sum(len(chat.requests) for chat in self.chats.values())

    def open(self, name: str) -> CountingChat:
        """Another model."""
        return self.chats.setdefault(name, CountingChat(name, self.scripts.get(name, self.script)))

    @property
    def helpers(self) -> Helpers:
        """Models beside the candidate's own."""
        return Helpers(ScriptedEmbedder(), self.open, ScriptedReranker.open)

    def meter(self) -> Meter:
        """A fresh meter over the bench's models."""
        return Meter(self.chat, helpers=self.helpers)

    def context(self, seed: int = 1) -> FitContext:
        """What `fit` is given; `fitting` and `tried` keep what it used."""
        return FitContext(
            models=self.fitting,
            seed=seed,
            adapters=self.folder / "adapters",
            indexes=self.folder / "indexes",
            tune=ScriptedTuner().tune,
            trials=self._trials,
            note=lambda *note: self.notes.append(note),
        )

    async def _trials(self, choice: str, solve: Solve, chosen: Sequence[Sample]) -> list[Trial]:
        work = Work("candidate", solve, self.chat, "dev", f"{FITTING}{choice}", helpers=self.helpers)
        return await self._runner.run(work, chosen)

    async def fit(self, technique: Any, task: Task = TASK, seed: int = 1) -> Fitted:
        """Fit a technique."""
        fitted: Fitted = await technique.fit(task, self.context(seed))
        return fitted

    @property
    def metered(self) -> int:
        """Requests that fitting was metered for."""
        return len(self.fitting.response_keys) + sum(len(trial.response_keys) for trial in self.tried)

    def close(self) -> None:
        """Close the store."""
        self._store.close()


async def violations(technique: Any, folder: Path, task: Task = TASK, **bench: Any) -> list[str]:
    """What of the contract a technique breaks; empty when it keeps all of it. `bench` is for Bench."""
    broken = []
    if dataclasses.replace(technique) != technique:
        broken.append("the constructor does not keep its arguments")
    at = Bench(folder, **bench)
    fitted = await at.fit(technique, task)
    if at.requests != at.metered:
        broken.append("fitting asked the model past the meter")
    if any(sample.input in prompt for chat in at.chats.values() for prompt in chat.prompts for sample in task.test):
        broken.append("fitting looked at test samples")
    broken += await _solving(fitted, at, task)
    (folder / "saved").mkdir()
    fitted.save(folder / "saved")
    again = registry.load_fitted(folder / "saved")
    if again.parameters != fitted.parameters or again.tuned != fitted.tuned:
        broken.append("loading does not give back what was saved")
    for sample in task.test:
        one, other = [await each.solve(sample, at.meter()) for each in (fitted, again)]
        if one != other:
            broken.append("the loaded technique answers differently")
    at.close()
    return sorted(set(broken))


async def _solving(fitted: Fitted, at: Bench, task: Task) -> list[str]:
    broken = []
    for sample in task.test:
        meter, before = at.meter(), at.requests
        answer = await fitted.solve(sample, meter)
        if at.requests - before != len(meter.response_keys):
            broken.append("solving asked the model past the meter")
        if meter.seconds <= 0 or (meter.steps and sum(step.seconds for step in meter.steps) > meter.seconds + 1e-9):
            broken.append("the seconds of solving do not add up")
        blind = await fitted.solve(dataclasses.replace(sample, target="?", metadata={}), at.meter())
        if answer != blind:
            broken.append("solving looked at the target or at gold metadata")
    return broken
