"""The error policy, as a table: what is a trial with an error, and what stops the run."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from pathlib import Path

import pytest

from backends.errors import BackendUnavailable, BudgetError, RequestError
from backends.meter import Meter
from backends.scripted import ScriptedChat
from backends.types import ChatRequest, Message
from evals.budget import Budget
from evals.cache import CachedChat
from evals.runner import Runner, Work
from evals.scorers import make_scorer
from evals.store import RunRow, Store
from evals.task import Sample
from evals.trial import Score, Trial

SAMPLES = [Sample(f"s{number}", f"input {number}", f"input {number}") for number in range(5)]


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "advisor.db") as opened:
        opened.add_run(RunRow("r1", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
        yield opened


def echo(sleep_seconds: float = 0.0) -> ScriptedChat:
    return ScriptedChat("scripted/echo", {"rules": [{"when": "(?s)(.*)", "answer": r"\1"}], "n": sleep_seconds})


async def ask(sample: Sample, models: Meter) -> str:
    return (await models.complete(ChatRequest((Message("user", sample.input),)))).text


def runner(store: Store, seen: list[Trial] | None = None) -> Runner:
    return Runner(store, "r1", make_scorer("exact", Path()), (seen if seen is not None else []).append)


async def test_a_budget_that_is_used_up_lets_what_is_under_way_end_and_begins_nothing_more(store: Store) -> None:
    is_under_way, is_stopped = asyncio.Event(), asyncio.Event()

    async def solve(sample: Sample, models: Meter) -> str:
        if sample.id == "s0":
            await is_under_way.wait()
            is_stopped.set()
            raise BudgetError("used up")
        is_under_way.set()
        await is_stopped.wait()
        return await ask(sample, models)

    two = Runner(store, "r1", make_scorer("exact", Path()), lambda trial: None, concurrency=2)
    with pytest.raises(BudgetError, match="used up"):
        await two.run(Work("c", solve, echo(), "test"), SAMPLES)
    assert [trial.sample_id for trial in store.trials("r1", "c", "test")] == ["s1"]


async def test_trials_come_back_in_the_order_of_the_samples(store: Store) -> None:
    seen: list[Trial] = []
    trials = await runner(store, seen).run(Work("c", ask, echo(), "test"), SAMPLES[::-1])
    assert [trial.sample_id for trial in trials] == ["s4", "s3", "s2", "s1", "s0"]
    assert all(trial.score is not None and trial.score.value == 1.0 for trial in trials)
    assert len(seen) == 5
    assert trials == [{t.sample_id: t for t in store.trials("r1", "c", "test")}[t.sample_id] for t in trials]


@pytest.mark.parametrize(
    ("raised", "recorded"),
    [
        (RequestError("too long"), "too long"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyError("field"), "KeyError: 'field'"),
    ],
)
async def test_what_goes_wrong_with_one_sample_is_a_trial_with_its_cost(
    store: Store, raised: Exception, recorded: str
) -> None:
    async def solve(sample: Sample, models: Meter) -> str:
        text = await ask(sample, models)
        if sample.id == "s2":
            raise raised
        return text

    trials = await runner(store).run(Work("c", solve, echo(), "test"), SAMPLES)
    failed = trials[2]
    assert (failed.error, failed.score, failed.output) == (recorded, None, None)
    assert failed.usage.requests == 1
    assert failed.usage.cost_usd is not None
    assert failed.usage.cost_usd > 0
    assert [trial.error for trial in trials if trial is not failed] == [None] * 4


@pytest.mark.parametrize("raised", [BackendUnavailable("no key"), BudgetError("used up")])
async def test_what_goes_wrong_with_every_sample_stops_the_run(store: Store, raised: Exception) -> None:
    async def solve(sample: Sample, models: Meter) -> str:
        if sample.id == "s2":
            raise raised
        return await ask(sample, models)

    with pytest.raises(type(raised), match=str(raised)):
        await runner(store).run(Work("c", solve, echo(), "test"), SAMPLES)
    assert "s2" not in {trial.sample_id for trial in store.trials("r1")}


@pytest.mark.parametrize("raised", [None, RequestError("no \ud83d"), ValueError("no \ud83d")])
async def test_half_a_character_of_a_technique_becomes_a_trial_and_no_crash(
    store: Store, raised: Exception | None
) -> None:
    async def solve(sample: Sample, models: Meter) -> str:
        if raised is not None:
            raise raised
        return "half \ud83d"  # as read from the JSON escape that a model wrote

    trials = await runner(store).run(Work("c", solve, echo(), "test"), SAMPLES[:1])
    assert trials == store.trials("r1")
    assert (trials[0].output or trials[0].error or "").endswith(("half \ufffd", "no \ufffd"))


class Doubtful:
    """Says of every answer what no file can hold."""

    name = "doubtful"
    binary = True

    def __call__(self, output: str, sample: Sample) -> Score:
        return Score(1.0, "is \ud83d")


async def test_half_a_character_in_the_reason_of_a_score_is_replaced(store: Store) -> None:
    (trial,) = await Runner(store, "r1", Doubtful(), lambda trial: None).run(
        Work("c", ask, echo(), "test"), SAMPLES[:1]
    )
    assert trial.score == Score(1.0, "is \ufffd")


class Asking:
    """A scorer that asks the model twice about each answer."""

    name = "asking"
    binary = True
    asks = "scripted/echo"
    embeds = False

    async def score(self, output: str, sample: Sample, models: Meter) -> Score:
        for what in ("right?", "sure?"):
            await models.complete(ChatRequest((Message("user", f"{what} {output}"),)))
        return Score(1.0)


async def test_every_request_of_trials_and_their_scoring_was_asked_or_reused(store: Store) -> None:
    chat = CachedChat(echo(), store, "r1", Budget())
    judged = Runner(store, "r1", Asking(), lambda trial: None, scoring=lambda: Meter(chat))
    trials = [
        trial for name in ("first", "second") for trial in await judged.run(Work(name, ask, chat, "test"), SAMPLES)
    ]
    requests = sum((trial.usage + trial.scoring).requests for trial in trials)
    assert requests == 2 * 5 * 3
    assert requests == store.asked("r1").requests + sum(trial.cached_requests for trial in trials)
    assert [trial.cached_requests for trial in trials] == [0] * 5 + [3] * 5


async def test_a_trial_in_the_store_is_not_evaluated_again(store: Store) -> None:
    work = Work("c", ask, echo(), "test")
    before = await runner(store).run(work, SAMPLES[:3])
    seen: list[Trial] = []
    after = await runner(store, seen).run(work, SAMPLES)
    assert after[:3] == before
    assert sorted(trial.sample_id for trial in seen) == ["s3", "s4"]


async def test_the_store_refuses_a_second_evaluation(store: Store) -> None:
    (trial,) = await runner(store).run(Work("c", ask, echo(), "test"), SAMPLES[:1])
    with pytest.raises(sqlite3.IntegrityError):
        store.add_trial("r1", trial)


async def test_the_first_request_is_on_its_way_before_the_last_is_prepared(store: Store) -> None:
    happened: list[str] = []

    async def solve(sample: Sample, models: Meter) -> str:
        happened.append(f"prepared {sample.id}")
        await asyncio.sleep(0)
        happened.append(f"sent {sample.id}")
        return await ask(sample, models)

    await runner(store).run(Work("c", solve, echo(), "test"), SAMPLES)
    assert happened.index("sent s0") < happened.index("prepared s4")


async def test_garbage_is_collected_as_before_once_a_run_is_over(store: Store) -> None:
    frozen: list[int] = []

    async def solve(sample: Sample, models: Meter) -> str:
        frozen.append(gc.get_freeze_count())
        raise BudgetError("used up")

    with pytest.raises(BudgetError):
        await runner(store).run(Work("c", solve, echo(), "test"), SAMPLES)
    assert frozen[0] > 0
    assert gc.get_freeze_count() == 0
