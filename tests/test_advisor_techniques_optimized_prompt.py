"""Prompt evolution: it finds what was planted, keeps to its budget, and leaves nothing behind when it is stopped."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.techniques import registry
from advisor.techniques.base import FitContext
from advisor.techniques.choose import shuffled
from advisor.techniques.instructions import complaint, listed_answers
from advisor.techniques.optimized_prompt import Attempt, OptimizedPrompt, winner
from advisor.techniques.search import Allowance, Plan
from backends.errors import BudgetError, RequestError
from backends.types import ChatRequest, ChatResponse
from evals.runner import Solve
from evals.task import Sample
from evals.trial import Trial
from tests import toys
from tests.techniques import TASK as SMALL
from tests.techniques import Bench, CountingChat, samples

TASK = dataclasses.replace(SMALL, dev=samples("dev", 40))
TEACHER = "scripted/teacher"
PLANTED = "Sort the message. Mind the noun."
SEES_MISTAKES = {"when": "(?s)Wrong. The right answer is", "answer": f"Here it is:\n```\n{PLANTED}\n```\nGood luck."}


def model(needs: str = "Mind the noun", **settings: Any) -> dict[str, Any]:
    """Right only when the prompt holds the phrase."""
    rules = [*toys.rules(1.0, needs=needs), {"when": "^(test|dev|train) message", "answer": "none"}]
    return {"rules": rules, "default": "nothing", **settings}


def bench_of(folder: Path, *rules: dict[str, str], **settings: Any) -> Bench:
    return Bench(folder, script=model(**settings), scripts={TEACHER: {"rules": list(rules), "default": ""}})


class Inventive(CountingChat):
    """A reflector that proposes something new every time, good or bad."""

    def __init__(self, name: str, phrases: Sequence[str]) -> None:
        super().__init__(name, {"rules": []})
        self.phrases = phrases

    async def complete(self, request: ChatRequest) -> ChatResponse:
        response = await super().complete(request)
        number = len(self.requests)
        text = f"```\nAttempt {number}: {self.phrases[number % len(self.phrases)]}\n```"
        return dataclasses.replace(response, text=text)


@pytest.mark.parametrize("teacher", [TEACHER, None])
async def test_a_planted_instruction_is_found_within_the_budget(
    teacher: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = bench_of(tmp_path, SEES_MISTAKES)
    bench.script["rules"].append(SEES_MISTAKES)
    fitted = await bench.fit(OptimizedPrompt(teacher=teacher, max_calls=100), TASK)
    found = fitted.parameters
    assert found["instructions"] == PLANTED
    assert (found["seed_dev_score"], found["dev_score"]) == (0.0, 1.0)
    assert bench.requests == bench.metered == found["calls"] <= 100
    assert len(bench.open(TEACHER).requests) == (1 if teacher else 0)
    assert await fitted.solve(TASK.test[0], bench.meter()) == TASK.test[0].target
    assert [(row["prompt"], row["parent"], row["outcome"]) for row in found["history"]] == [
        (TASK.instructions, None, "seed"),
        (PLANTED, 0, "tried on dev"),
    ]
    assert bench.notes[-1] == ("prompts tried", found["calls"], 100)
    assert capfd.readouterr() == ("", ""), "the library prints nothing"


async def test_the_reflector_is_shown_inputs_answers_and_what_was_right(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, SEES_MISTAKES)
    await bench.fit(OptimizedPrompt(teacher=TEACHER), TASK)
    (shown,) = bench.open(TEACHER).prompts
    assert TASK.instructions in shown
    assert sum(sample.input in shown for sample in TASK.train) == 4
    assert not any(sample.input in shown for sample in (*TASK.dev, *TASK.test))
    assert "## Generated Outputs\nnone" in shown


async def test_a_prompt_that_is_right_already_is_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, scripts={TEACHER: {"rules": []}})
    found = (await bench.fit(OptimizedPrompt(teacher=TEACHER), TASK)).parameters
    assert found["instructions"] == TASK.instructions
    assert found["calls"] == bench.requests == Plan.of(150, 30, 40).dev
    assert "right on all dev samples" in found["ended"]


@settings(max_examples=12, deadline=None)
@given(
    max_calls=st.integers(30, 130),
    n_dev=st.integers(4, 40),
    phrases=st.lists(st.sampled_from(["plum", "iron", "volga", "apple", "zinc", "seine", ""]), min_size=1, max_size=5),
    max_usd=st.none() | st.floats(1e-5, 3e-3),
    seed=st.integers(0, 3),
)
def test_calls_and_dollars_are_never_exceeded(
    max_calls: int, n_dev: int, phrases: list[str], max_usd: float | None, seed: int
) -> None:
    """The more words an attempt names, the more it gets right; attempts are endless."""
    rules = [
        {"when": f"^(test|dev|train) message .*{word}", "needs": f"Attempt.*{word}", "answer": label}
        for label, words in toys.WORDS.items()
        for word in words
    ]
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder), script={"rules": rules, "default": "none", "usd_per_1m_output": 3.0})
        bench.chats[TEACHER] = Inventive(TEACHER, phrases)
        task = dataclasses.replace(TASK, dev=TASK.dev[:n_dev])
        technique = OptimizedPrompt(teacher=TEACHER, max_calls=max_calls, max_usd=max_usd)
        fitted: Any = asyncio.run(bench.fit(technique, task, seed))
        bench.close()
    assert bench.requests == fitted.calls <= max_calls
    billed = (bench.fitting.usage.cost_usd or 0.0) + sum(trial.usage.cost_usd or 0.0 for trial in bench.tried)
    assert fitted.usd == pytest.approx(billed)
    assert max_usd is None or fitted.usd <= max_usd
    assert (fitted.parameters["dev_score"] or 0.0) >= (fitted.parameters["seed_dev_score"] or 0.0)


@given(st.integers(30, 2000), st.integers(4, 500), st.integers(4, 500))
def test_every_plan_has_room_for_the_seed_a_round_and_the_end(max_calls: int, n_train: int, n_dev: int) -> None:
    plan = Plan.of(max_calls, n_train, n_dev)
    assert plan.dev + plan.round + plan.end <= max_calls
    assert plan.dev + plan.confirm <= n_dev


@pytest.mark.parametrize(
    ("calls", "worst", "reserve", "fits"),
    [
        (5, 0.5, 0, True),
        (6, 0.0, 0, False),
        (4, 0.0, 1, True),
        (4, 0.0, 2, False),
        (1, 0.51, 0, False),
        (1, None, 0, False),
    ],
)
def test_an_allowance_admits_only_what_fits_at_worst(calls: int, worst: float | None, reserve: int, fits: bool) -> None:
    allowance = Allowance(max_calls=10, max_usd=1.0)
    allowance.spend(5, 0.5)
    assert allowance.admits(calls, worst, reserve) is fits
    allowance.spend(1, None)
    assert not allowance.admits(1, 0.0), "what an unknown price has spent is unknown"


@pytest.mark.parametrize("silent", ["candidate", "teacher"])
async def test_a_dollar_limit_on_a_price_nobody_knows_is_refused_before_anything_is_asked(
    silent: str, tmp_path: Path
) -> None:
    unknown = {"usd_per_1m_input": None}
    bench = bench_of(tmp_path, SEES_MISTAKES, **(unknown if silent == "candidate" else {}))
    bench.scripts[TEACHER] |= unknown if silent == "teacher" else {}
    with pytest.raises(RequestError, match=r"max_usd is 1, but the price of scripted/(count|teacher) is not known"):
        await bench.fit(OptimizedPrompt(teacher=TEACHER, max_usd=1.0), TASK)
    assert bench.requests == 0


async def test_without_a_dollar_limit_an_unknown_price_stays_unknown(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, SEES_MISTAKES, usd_per_1m_input=None)
    assert (await bench.fit(OptimizedPrompt(teacher=TEACHER), TASK)).parameters["usd"] is None


async def test_a_prompt_that_only_suits_the_samples_it_was_chosen_by_loses_to_the_seed(tmp_path: Path) -> None:
    """The planted prompt is right on train and on three samples that judge; the seed is right on all unseen ones."""
    plan = Plan.of(150, len(TASK.train), len(TASK.dev))
    dev = shuffled(TASK.dev, 1, "dev")
    suits = {sample.input: sample.target for sample in (*TASK.train, *dev[:3])}
    unseen = {sample.input: sample.target for sample in dev[plan.dev :]}

    class Overfitted(CountingChat):
        async def complete(self, request: ChatRequest) -> ChatResponse:
            response = await super().complete(request)
            told, asked = (message.content for message in request.messages)
            right = suits if told == PLANTED else unseen
            return dataclasses.replace(response, text=right.get(asked, "none"))

    bench = bench_of(tmp_path, SEES_MISTAKES)
    bench.chats["scripted/count"] = Overfitted("scripted/count", {})
    fitted: Any = await bench.fit(OptimizedPrompt(teacher=TEACHER), TASK)
    seed, planted = fitted.attempts[:2]
    assert (planted.prompt, planted.n, seed.n) == (PLANTED, plan.dev + plan.confirm, plan.dev + plan.confirm)
    assert planted.score == pytest.approx(3 / planted.n)
    assert seed.score == pytest.approx(plan.confirm / seed.n)
    assert (fitted.best, fitted.parameters["instructions"]) == (0, TASK.instructions)


def attempt(score: float | None, errors: int = 0, n: int = 10) -> Attempt:
    return Attempt("prompt", None, "", n, errors, score, 0)


@pytest.mark.parametrize(
    ("attempts", "best"),
    [
        ([attempt(0.5)], 0),
        ([attempt(0.5), attempt(0.5)], 0),
        ([attempt(0.5), attempt(0.6), attempt(0.7), attempt(0.7)], 2),
        ([attempt(0.5), attempt(0.9, errors=1)], 0),
        ([attempt(0.5, errors=2), attempt(0.6, errors=1)], 1),
        ([attempt(None, errors=10), attempt(0.1)], 1),
        ([attempt(0.5), attempt(0.9, n=4), attempt(None, n=0)], 0),
        ([attempt(None, n=0), attempt(None, n=0)], 0),
    ],
)
def test_the_seed_is_kept_unless_another_is_better(attempts: list[Attempt], best: int) -> None:
    assert winner(attempts) == best


@given(st.lists(st.tuples(st.none() | st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=6))
def test_the_winner_is_never_worse_than_the_seed(rows: list[tuple[float | None, int]]) -> None:
    attempts = [attempt(score, errors) for score, errors in rows]
    best = attempts[winner(attempts)]
    assert (best.score or 0.0) >= (attempts[0].score or 0.0)
    assert best.errors <= attempts[0].errors


LISTED = "Sort the message: fruit, metal or river."


@pytest.mark.parametrize(
    ("proposal", "why"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("x" * 4001, "has more than 4000 characters"),
        ("Sort into fruit and metal.", "loses the answer 'river'"),
        ("Say fruit, metal or river.", ""),
    ],
)
def test_proposals_that_cannot_be_used_are_told_from_those_that_can(proposal: str, why: str) -> None:
    assert complaint(proposal, LISTED, listed_answers(SMALL, LISTED)) == why


def test_answers_are_listed_only_where_the_instructions_name_them() -> None:
    unlabelled = dataclasses.replace(SMALL, labels=())
    assert listed_answers(SMALL, "Sort.") == frozenset()
    assert listed_answers(unlabelled, LISTED) == {"fruit", "metal", "river"}
    many = tuple(Sample(f"t{number}", "x", f"{number}") for number in range(60))
    assert listed_answers(dataclasses.replace(unlabelled, train=many), "1 to 59") == frozenset()


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ({"when": "", "answer": "   "}, "rejected: it is empty"),
        ({"when": "", "error": "refused"}, "rejected: it is empty"),
        ({"when": "", "answer": TASK.instructions}, "rejected: it was proposed before"),
    ],
)
async def test_a_reflector_that_cannot_write_is_given_up(rule: dict[str, str], outcome: str, tmp_path: Path) -> None:
    bench = bench_of(tmp_path, rule)
    found = (await bench.fit(OptimizedPrompt(teacher=TEACHER), TASK)).parameters
    assert found["instructions"] == TASK.instructions
    assert found["ended"] == "the last 5 proposals could not be used"
    assert len(bench.open(TEACHER).requests) == 5
    assert {row["outcome"] for row in found["history"]} == {"seed", outcome}


async def test_two_searches_with_one_seed_are_the_same(tmp_path: Path) -> None:
    found = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        bench = Bench(tmp_path / place, script=model())
        bench.chats[TEACHER] = Inventive(TEACHER, ["", "Mind the verb", "Mind the noun"])
        fitted = await bench.fit(OptimizedPrompt(teacher=TEACHER), TASK, seed)
        found.append((fitted.parameters, [(trial.variant, trial.sample_id) for trial in bench.tried]))
    assert found[0] == found[1]
    assert found[0] != found[2]


async def test_a_search_that_is_taken_up_again_tries_nothing_twice(tmp_path: Path) -> None:
    first = bench_of(tmp_path, SEES_MISTAKES)
    whole = await first.fit(OptimizedPrompt(teacher=TEACHER), TASK)
    first.close()
    again = bench_of(tmp_path, SEES_MISTAKES)
    assert (await again.fit(OptimizedPrompt(teacher=TEACHER), TASK)).parameters == whole.parameters
    assert (again.tried, len(again.chat.requests)) == ([], 0)


async def test_history_and_prompt_survive_saving_and_stay_small(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench", script=model(needs="never"))
    bench.chats[TEACHER] = Inventive(TEACHER, ["word " * 700])
    fitted = await bench.fit(OptimizedPrompt(teacher=TEACHER, max_calls=600), TASK)
    fitted.save(tmp_path)
    assert registry.load_fitted(tmp_path) == fitted
    history = fitted.parameters["history"]
    assert len(history) == 20
    assert len(json.dumps(fitted.parameters)) < 30_000
    assert [row["number"] for row in history] == sorted(row["number"] for row in history)


def evolving() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "prompt-evolution"]


@pytest.mark.parametrize("asleep", ["scripted/count", TEACHER])
async def test_a_cancelled_search_leaves_no_thread_behind(asleep: str, tmp_path: Path) -> None:
    bench = bench_of(tmp_path, SEES_MISTAKES)
    reached = asyncio.Event()

    class Asleep(CountingChat):
        async def complete(self, request: ChatRequest) -> ChatResponse:
            reached.set()
            await asyncio.Event().wait()
            raise AssertionError

    bench.chats[asleep] = Asleep(asleep, {})
    search = asyncio.create_task(bench.fit(OptimizedPrompt(teacher=TEACHER), TASK))
    await reached.wait()
    assert evolving() == ["prompt-evolution"]
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    assert evolving() == []


class Killed(BaseException):
    """Stands for a process that dies."""


@pytest.mark.parametrize("problem", [BudgetError("used up"), ValueError("a bug"), Killed()])
@pytest.mark.parametrize("when", ["trials", "reflection"])
async def test_what_goes_wrong_on_the_way_stops_the_search(problem: BaseException, when: str, tmp_path: Path) -> None:
    bench = bench_of(tmp_path, SEES_MISTAKES)
    context = bench.context()

    async def trials(choice: str, solve: Solve, chosen: Sequence[Sample]) -> list[Trial]:
        if when == "trials" and len(bench.tried) > 20:
            raise problem
        return await context.trials(choice, solve, chosen)

    class Failing(CountingChat):
        async def complete(self, request: ChatRequest) -> ChatResponse:
            self.requests.append(request)
            raise problem

    if when == "reflection":
        bench.chats[TEACHER] = Failing(TEACHER, {})
    changed: FitContext = dataclasses.replace(context, trials=trials)
    with pytest.raises(type(problem)):
        await OptimizedPrompt(teacher=TEACHER).fit(TASK, changed)
    assert evolving() == []
    assert len(bench.open(TEACHER).requests) <= 1, "a request that failed for good is not tried again"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"max_calls": 29}, "at least 30"), ({"max_usd": 0}, "must be positive"), ({"teacher": 3}, "teacher is 3")],
)
def test_settings_that_make_no_search_are_refused(parameters: dict[str, Any], said: str) -> None:
    assert said in registry.problems("optimized_prompt", parameters)[0]


def test_it_says_whom_it_asks_and_what_it_needs() -> None:
    assert OptimizedPrompt(teacher=TEACHER).others(TASK) == (TEACHER,)
    assert OptimizedPrompt().others(TASK) == ()
    assert "too few" in str(OptimizedPrompt().unfit(dataclasses.replace(TASK, dev=())))
