"""Dollars of calls that were under way when a process was killed: the cap holds over the kill, and the report tells."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import BudgetError
from evals.budget import Budget
from evals.cache import store_path
from evals.store import RunRow, Store
from evals.unsettled import Unsettled
from tests import openai_server as wire
from tests import toys
from tests.batch_server import SHARE, BatchServer, until
from tests.openai_server import Server

ROOT = Path(__file__).parent.parent
WAIT = 120.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "advisor.db") as opened:
        opened.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
        yield opened


async def test_what_is_reserved_is_never_above_the_mark_and_an_orderly_end_leaves_none(store: Store) -> None:
    unsettled = Unsettled(store, "r")
    budget = Budget(10.0, 0.0, unsettled)
    for number in range(1, 51):
        await budget.reserve(0.1, "m")
        assert number * 0.1 <= store.unsettled("r")[""] + 1e-9 <= 10.0 + 1e-9
    for _ in range(50):
        await budget.settle(0.1, 0.05)
    assert store.unsettled("r")[""] >= 0
    unsettled.close()
    assert store.unsettled("r") == {}
    assert Unsettled(store, "r").usd == 0.0


async def test_the_mark_is_written_seldom(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    kept = Store.set_unsettled
    monkeypatch.setattr(Store, "set_unsettled", lambda *given: (writes.append(given[2:]), kept(*given)))
    budget = Budget(1000.0, 0.0, Unsettled(store, "r"))
    for _ in range(20):
        for _ in range(256):
            await budget.reserve(0.01, "m")
        for _ in range(256):
            await budget.settle(0.01, 0.005)
    assert len(writes) <= 40, "5,120 calls"


async def test_the_mark_follows_what_the_calls_need_down(store: Store) -> None:
    budget = Budget(1000.0, 0.0, Unsettled(store, "r"))
    for _ in range(200):
        await budget.reserve(1.0, "m")
    for _ in range(200):
        await budget.settle(1.0, 0.5)
    for _ in range(1200):
        await budget.settle(await budget.reserve(0.1, "m"), 0.05)
    assert store.unsettled("r")[""] <= 0.3


async def test_a_killed_sittings_mark_counts_as_spent_and_adds_up(store: Store) -> None:
    await Budget(10.0, 0.0, Unsettled(store, "r")).reserve(4.0, "m")
    again = Unsettled(store, "r")
    budget = Budget(10.0, 1.0, again)
    assert again.lost_usd >= 4.0
    assert budget.spent_usd == 1.0 + again.lost_usd
    with pytest.raises(BudgetError):
        await budget.reserve(10.0 - 4.0, "m")
    await budget.reserve(1.0, "m")
    third = Unsettled(store, "r")
    assert third.lost_usd >= 5.0


async def test_a_mark_is_no_more_than_the_run_may_still_spend(store: Store) -> None:
    await Budget(10.0, 0.0, Unsettled(store, "r")).reserve(9.9, "m")
    assert Unsettled(store, "r").lost_usd == 10.0


async def test_without_a_limit_it_is_counted_all_the_same(store: Store) -> None:
    await Budget(None, 0.0, Unsettled(store, "r")).reserve(4.0, "m")
    assert Unsettled(store, "r").lost_usd >= 4.0


async def test_a_named_reservation_is_taken_up_by_the_next_sitting_and_not_set_aside_twice(store: Store) -> None:
    first = Budget(10.0, 0.0, Unsettled(store, "r"))
    await first.reserve(6.0, "m", "call a")
    await first.reserve(3.0, "m", "call b")
    unsettled = Unsettled(store, "r")
    budget = Budget(10.0, 0.0, unsettled)
    assert unsettled.usd == 9.0
    with pytest.raises(BudgetError, match="in batches that go on"):
        await budget.reserve(2.0, "m")
    await budget.settle(await budget.reserve(6.0, "m", "call a"), 4.0, "call a")
    assert (budget.spent_usd, unsettled.usd) == (4.0, 3.0)
    await budget.reserve(3.0, "m")
    assert set(store.unsettled("r")) == {"call b", ""}


async def test_a_named_call_that_is_left_stays_set_aside(store: Store) -> None:
    unsettled = Unsettled(store, "r")
    budget = Budget(10.0, 0.0, unsettled)
    await budget.leave(await budget.reserve(6.0, "m", "a"), "a")
    assert unsettled.usd == 6.0
    with pytest.raises(BudgetError):
        await budget.reserve(5.0, "m")
    unsettled.close()
    assert store.unsettled("r") == {"a": 6.0}


@settings(max_examples=60, deadline=None)
@given(
    acts=st.lists(st.tuples(st.floats(0.001, 3.0), st.booleans(), st.booleans(), st.booleans()), max_size=60),
    limit=st.floats(0.5, 20.0),
)
def test_over_any_number_of_kills_the_cap_covers_what_may_have_been_billed(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[float, bool, bool, bool]], limit: float
) -> None:
    """Every call is billed at its worst the moment it is reserved; kills come in between."""

    async def live() -> None:
        with Store.open(tmp_path_factory.mktemp("kills") / "advisor.db") as store:
            store.add_run(RunRow("r", "2026-01-01", "run", "toy", "toy.yaml", "h", {}))
            budget, billed, known = Budget(limit, 0.0, Unsettled(store, "r")), 0.0, 0.0
            for worst, settled, killed, named in acts:
                name = f"call {billed}" if named else ""
                try:
                    reserved = await asyncio.wait_for(budget.reserve(worst, "m", name), 0.01)
                except (BudgetError, TimeoutError):
                    continue
                billed += worst
                if settled:
                    known += worst
                    await budget.settle(reserved, worst, name)
                if killed:
                    budget = Budget(limit, known, Unsettled(store, "r"))
                assert billed <= limit * (1 + 1e-9)

    asyncio.run(live())


def answer(body: dict[str, Any]) -> str:
    """The first label that is allowed, or the message."""
    return wire.form_answer(body) or str(body["messages"][-1]["content"])


def scenario(tmp_path: Path, server: Server, **changes: Any) -> Path:
    endpoint = {"base_url": server.url, "prices": {"*": {"input": 1.0, "output": 2.0}}}
    return toys.scenario(
        tmp_path / "s",
        "stub/gpt-4o-mini",
        n_test=60,
        endpoints={"stub": endpoint},
        techniques=["zero_shot"],
        fine_tune={"when": "never"},
        **changes,
    )


def command(tmp_path: Path, path: Path, *more: str) -> list[str]:
    options = ["--workspace", str(tmp_path / "w"), "--yes", "--no-diagnose", "--json", str(tmp_path / "out.json")]
    return [sys.executable, "-m", "advisor", "compare", str(path), *options, *more]


def run_ids(tmp_path: Path) -> list[str]:
    with Store.open(store_path(tmp_path / "w")) as store:
        return [run.id for run in store.runs()]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "ADVISOR_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}


async def killed(tmp_path: Path, path: Path, server: Server, when: Any, *more: str) -> str:
    """Start a comparison, kill it as soon as `when` is so, and return the run's id."""
    process = subprocess.Popen(command(tmp_path, path, *more), cwd=tmp_path, env=environment(tmp_path))
    try:
        await until(lambda: process.poll() is not None or when(), WAIT)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (run_id,) = run_ids(tmp_path)
    return run_id


def resumed(tmp_path: Path, path: Path, run_id: str, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        command(tmp_path, path, "--resume", run_id, *more),
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "out.json").read_text("utf-8"))
    return report


async def test_calls_under_way_at_a_kill_are_counted_and_told_when_the_run_goes_on(tmp_path: Path) -> None:
    server = Server(answer=answer, fault=lambda number, body: wire.Fault(hang=True) if number >= 20 else None)
    with wire.in_thread(server):
        path = scenario(tmp_path, server, budget={"usd": 1})
        run_id = await killed(tmp_path, path, server, lambda: server.active >= 3)
        in_flight = server.billed_usd
        server.fault = lambda number, body: None
        report = resumed(tmp_path, path, run_id)
    spent = report["spent"]
    assert spent["unsettled_usd"] > 0
    assert server.billed_usd > in_flight
    assert server.billed_usd <= spent["usd"] <= 1
    assert (spent["usd"] - spent["unsettled_usd"]) < server.billed_usd, "some answers were lost and paid for"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["while it is worked on", "before its id is known"])
async def test_a_batch_outlives_a_kill_and_the_server_sees_it_once(tmp_path: Path, when: str) -> None:
    server = BatchServer(answer=answer, on_hold=True)
    if when == "before its id is known":
        server.creating = lambda number: wire.Fault(hang=True) if number == 0 else None
    with wire.in_thread(server):
        path = scenario(tmp_path, server, budget={"usd": 1})
        ready = (lambda: bool(server.batches)) if server.creating(0) else lambda: server.active_looks() > 0
        run_id = await killed(tmp_path, path, server, ready, "--batch")
        with Store.open(store_path(tmp_path / "w")) as store:
            assert len(store.unsettled(run_id)) == len(server.asked[0]), "one reservation for each request"
        server.on_hold = False
        report = resumed(tmp_path, path, run_id, "--batch")
    every = [name for names in server.asked for name in names]
    assert len(every) == len(set(every)) == len(server.names), "nothing was sent twice"
    assert len(every) >= 75, "15 dev and 60 test samples"
    assert report["spent"]["usd"] == pytest.approx(server.billed_usd / SHARE), "a stub has no price for batches"
    assert report["spent"]["unsettled_usd"] == 0
    assert report["candidates"][0]["n"] == 60
    assert report["candidates"][0]["seconds"] == {"p50": None, "p95": None, "first_token_p50": None}
