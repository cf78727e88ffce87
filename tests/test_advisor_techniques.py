"""One battery that every technique passes, and cheats that it must catch."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from advisor.techniques import registry
from advisor.techniques.base import FitContext
from advisor.techniques.few_shot import FewShot, stratified
from advisor.techniques.fine_tune import FineTune
from advisor.techniques.instructions import REASONING_TOKENS, reworded
from advisor.techniques.knn_few_shot import KnnFewShot
from advisor.techniques.prompt import Prompt, fitting_sizes
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
    peeks: bool = False

    async def fit(self, task: Task, context: FitContext) -> _CheatFitted:
        inner = await ZeroShot.fit(self, task, context)
        return _CheatFitted(inner.prompt, model=context.models.chat, peeks=self.peeks)


@pytest.mark.parametrize(
    ("peeks", "caught"),
    [
        (False, "solving asked the model past the meter"),
        (True, "solving looked at the target or at gold metadata"),
    ],
)
async def test_a_cheat_is_caught(peeks: bool, caught: str, tmp_path: Path) -> None:
    assert caught in await violations(_Cheat(peeks=peeks), tmp_path)


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
    assert KnnFewShot().unfit(dataclasses.replace(TASK, train=TASK.train[:4])) is not None
    assert FineTune().unfit(dataclasses.replace(TASK, train=TASK.train[:9])) is not None
    assert all(technique().unfit(TASK) is None for technique in (ZeroShot, FewShot, KnnFewShot, FineTune))


def test_the_battery_runs_every_technique_there_is() -> None:
    names = registry.names()
    assert (names[0], names[-1]) == ("zero_shot", "fine_tune")
    (battery,) = test_every_technique_keeps_the_contract.pytestmark  # type: ignore[attr-defined]
    assert list(battery.args[1]) == names
    assert asyncio.iscoroutinefunction(ZeroShot.fit)


OPEN = dataclasses.replace(TASK, labels=())
SCHEMA = dataclasses.replace(TASK, labels=(), output_schema='{"type":"object"}')


def test_instructions_are_put_in_four_ways_that_say_the_same() -> None:
    prompt = Prompt.of(TASK)
    assert reworded(prompt, "plain") == reworded(prompt, "reason_then_answer") == prompt
    structured = reworded(prompt, "structured").instructions
    assert structured.startswith(
        "# Task\nSort the message.\n\n# Allowed answers\n- fruit\n- metal\n- river\n\n# Output\n"
    )
    form, _, task = reworded(prompt, "format_first").instructions.partition("\n\n")
    assert "exactly one of the allowed answers" in form
    assert task == "Sort the message."


@pytest.mark.parametrize(("task", "said"), [(OPEN, "The answer only"), (SCHEMA, 'fits this JSON Schema:\n{"type"')])
def test_the_form_of_an_answer_is_said_for_every_kind_of_task(task: Task, said: str) -> None:
    assert said.lower() in reworded(Prompt.of(task), "format_first").instructions.lower()
    assert "Allowed answers" not in reworded(Prompt.of(task), "structured").instructions


def test_a_list_of_labels_that_fills_a_window_is_left_to_the_constraint() -> None:
    many = dataclasses.replace(TASK, labels=tuple(f"label number {number}" for number in range(1000)))
    assert len(reworded(Prompt.of(many), "structured").instructions) < 500


async def test_a_thought_precedes_an_answer_that_stays_constrained(tmp_path: Path) -> None:
    rules = [{"when": "^Now give the answer", "needs": "It is a metal", "answer": "metal"}]
    bench = Bench(tmp_path, script={"rules": [*rules, {"when": "about", "answer": "It is a metal, I think."}]})
    fitted = await bench.fit(ZeroShot(instruction="reason_then_answer"))
    assert bench.requests == 0, "a variant that was named needs no choosing"
    meter = bench.meter()
    assert await fitted.solve(TASK.test[0], meter) == "metal"
    thought, answer = bench.chat.requests
    assert (thought.choices, thought.max_tokens) == ((), REASONING_TOKENS)
    assert answer.choices == TASK.labels
    assert [step.name for step in meter.steps] == ["reason", "answer"]


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("Two and two.\nAnswer: 4", "4"),
        ("Answer: 3? No.\n**Answer:** 4", "4"),
        ("The answer is four.", "The answer is four."),
        ("so the final answer: `4`", "4"),
        ("Answer:", "Answer:"),
    ],
)
async def test_a_free_answer_is_read_after_the_marker(output: str, answer: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, script={"rules": [], "default": output})
    fitted = await bench.fit(ZeroShot(instruction="reason_then_answer"), OPEN)
    assert await fitted.solve(OPEN.test[0], bench.meter()) == answer
    assert bench.requests == 1
    assert bench.chat.requests[0].max_tokens == REASONING_TOKENS + Prompt.of(OPEN).max_tokens


async def test_zero_shot_chooses_the_instructions_that_do_best_on_dev(tmp_path: Path) -> None:
    bench = Bench(tmp_path, script={"rules": toys.rules(1.0, needs="# Allowed answers"), "default": "none"})
    fitted = await bench.fit(ZeroShot())
    assert fitted.parameters["instruction"] == "structured"
    scores = {row["option"]: row["score"] for row in fitted.parameters["tried"]}
    assert scores == {"plain": 0.0, "structured": 1.0, "format_first": 0.0, "reason_then_answer": 0.0}


async def test_few_shot_chooses_number_and_order_on_dev(tmp_path: Path) -> None:
    """A model that is right only when the last example shown is the one the reversed order puts last."""
    first = stratified(TASK.train, 8, seed=1)[0]
    needs = (
        re.escape(f"{first.input}\n{first.target}")
        + r"\ntest|"
        + re.escape(f"{first.input}\n{first.target}")
        + r"\ndev"
    )
    bench = Bench(tmp_path, script={"rules": toys.rules(1.0, needs=needs), "default": "none"})
    fitted = await bench.fit(FewShot())
    assert (fitted.parameters["k"], fitted.parameters["order"]) == (8, "reversed")
    options = [row["option"] for row in fitted.parameters["tried"]]
    assert options == ["k=4 drawn", "k=8 drawn", "k=16 drawn", "k=8 reversed"]


async def test_a_given_number_of_examples_asks_nothing_while_fitting(tmp_path: Path) -> None:
    for number, technique in enumerate((FewShot(k=5), FewShot(k=5, order="reversed"), KnnFewShot(k=5))):
        bench = Bench(tmp_path / str(number))
        fitted = await bench.fit(technique)
        assert (bench.requests, fitted.parameters["k"]) == (0, 5)


async def test_every_label_is_shown_where_there_are_not_too_many(tmp_path: Path) -> None:
    train = tuple(Sample(f"t{number}", f"text {number}", f"label {number % 10}") for number in range(40))
    task = dataclasses.replace(TASK, train=train, labels=tuple(f"label {number}" for number in range(10)))
    fitted = await Bench(tmp_path).fit(FewShot(), task)
    assert [row["option"] for row in fitted.parameters["tried"]] == ["k=10 drawn", "k=16 drawn", "k=16 reversed"]


async def test_prompts_that_would_be_too_long_are_not_tried(tmp_path: Path) -> None:
    for words, sizes in ((250, [4, 8]), (500, [4]), (4000, [1])):
        train = tuple(Sample(f"t{number}", "word " * words, f"label {number}") for number in range(40))
        assert fitting_sizes([4, 8, 16], Prompt.of(TASK), train) == sizes
        fitted = await Bench(tmp_path / str(words)).fit(KnnFewShot(), dataclasses.replace(TASK, train=train))
        assert fitted.parameters["k"] <= sizes[-1]


async def test_knn_few_shot_chooses_where_the_nearest_stands(tmp_path: Path) -> None:
    """A model that is right only when the first example shown has the words of the input."""
    found = [
        {"when": "|".join(words), "needs": rf"\A[^\n]*\n[^\n]*({'|'.join(words)})", "answer": label}
        for label, words in toys.WORDS.items()
    ]
    bench = Bench(tmp_path, script={"rules": found, "default": "none"})
    fitted = await bench.fit(KnnFewShot())
    assert fitted.parameters["order"] == "nearest_first"
    assert [row["option"] for row in fitted.parameters["tried"]][-1] == "k=8 nearest_first"
