"""One battery that every technique passes, and cheats that it must catch."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from advisor.techniques import registry
from advisor.techniques.base import FitContext
from advisor.techniques.few_shot import FewShot, stratified
from advisor.techniques.fine_tune import FineTune
from advisor.techniques.knn_few_shot import KnnFewShot
from advisor.techniques.zero_shot import FittedZeroShot, ZeroShot
from backends.errors import InputError, RequestError
from backends.meter import Meter
from backends.scripted import ScriptedChat
from backends.types import ChatRequest, Message, Usage
from evals.task import Sample, Task
from tests import toys
from tests.techniques import TASK, Bench, violations


@pytest.mark.parametrize("name", registry.names())
async def test_every_technique_keeps_the_contract(name: str, tmp_path: Path) -> None:
    assert await violations(registry.make(name, {}), tmp_path) == []


@dataclass(frozen=True)
class _CheatFitted(FittedZeroShot):
    model: Any = None
    peeks: bool = False

    async def solve(self, sample: Sample, models: Meter) -> str:
        if self.peeks:
            return sample.target
        await self.model.complete(ChatRequest((Message("user", "unmetered"),)))
        return await FittedZeroShot.solve(self, sample, models)


@dataclass(frozen=True)
class _Cheat(ZeroShot):
    peeks: bool = field(default=False)

    async def fit(self, task: Task, context: FitContext) -> _CheatFitted:
        inner = await ZeroShot.fit(self, task, context)
        return _CheatFitted(inner.prompt, context.models.chat, self.peeks)


@pytest.mark.parametrize(
    ("peeks", "caught"),
    [
        (False, "solving asked the model past the meter"),
        (True, "solving looked at the target or at gold metadata"),
    ],
)
async def test_a_cheat_is_caught(peeks: bool, caught: str, tmp_path: Path) -> None:
    assert caught in await violations(_Cheat(peeks), tmp_path)


async def test_a_meter_keeps_what_a_failed_solve_has_spent() -> None:
    meter = Meter(ScriptedChat("scripted/toy", {"rules": toys.rules(1.0)}))
    await meter.complete(ChatRequest((Message("user", "about iron"),)))
    with pytest.raises(RequestError, match="opened none"):
        await meter.embed(["x"])
    assert meter.usage.requests == 1
    assert meter.usage.cost_usd is not None
    assert meter.usage.cost_usd > 0


def test_unknown_cost_stays_unknown_in_a_sum() -> None:
    assert (Usage(1, 2, 0, 3, None) + Usage(1, 2, 0, 3, 0.5)).cost_usd is None
    assert (Usage(1, 2, 1, 3, 0.25) + Usage(1, 2, 0, 3, 0.5)) == Usage(2, 4, 1, 6, 0.75)


def test_stratified_takes_turns_between_answers_and_obeys_its_seed() -> None:
    chosen = stratified(TASK.train, 7, seed=3)
    counts = sorted([sum(one.target == label for one in chosen) for label in toys.LABELS])
    assert counts == [2, 2, 3]
    assert stratified(TASK.train, 7, seed=3) == chosen
    assert stratified(TASK.train, 7, seed=4) != chosen
    assert len(stratified(TASK.train, 100, seed=1)) == 30


async def test_nearest_neighbours_are_shown_nearest_last(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    fitted = await bench.fit(KnnFewShot(k=3))
    asked = TASK.train[4]
    await fitted.solve(asked, bench.meter())
    shown = bench.chat.prompts[-1].splitlines()
    assert shown[-1] == asked.input
    assert shown[-3] == asked.input, "the sample itself is its own nearest neighbour"


async def test_a_tuned_candidate_is_asked_with_the_short_instruction(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    fitted = await bench.fit(FineTune(base="scripted/count"))
    await fitted.solve(TASK.test[0], bench.meter())
    assert bench.chat.prompts[-1].splitlines() == ["toy", TASK.test[0].input]


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("few_shott", {}, "Did you mean 'few_shot'"),
        ("few_shot", {"shots": 3}, "no parameter 'shots'; it has: k"),
        ("few_shot", {"k": 0}, "at least one example"),
        ("knn_few_shot", {"k": 2.5}, "knn_few_shot.k is 2.5"),
        ("fine_tune", {"recipe": 3}, "fine_tune.recipe is 3"),
        ("fine_tune", {"instruction": "long"}, "'short' or 'full'"),
    ],
)
def test_a_technique_that_cannot_be_made_says_why(name: str, parameters: dict[str, Any], said: str) -> None:
    assert said in registry.problems(name, parameters)[0]
    with pytest.raises(InputError, match="techniques"):
        registry.make(name, parameters)


def test_techniques_say_when_they_make_no_sense() -> None:
    empty = dataclasses.replace(TASK, train=())
    assert FewShot().unfit(empty) is not None
    assert KnnFewShot(k=30).unfit(TASK) is not None
    assert FineTune().unfit(dataclasses.replace(TASK, train=TASK.train[:9])) is not None
    assert all(registry.make(name, {}).unfit(TASK) is None for name in registry.names())


def test_the_battery_runs_every_technique_there_is() -> None:
    assert registry.names() == ["zero_shot", "few_shot", "knn_few_shot", "fine_tune"]
    assert asyncio.iscoroutinefunction(ZeroShot.fit)
