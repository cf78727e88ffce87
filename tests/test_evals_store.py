"""The store: what goes in comes out, and a disk that will not take it gives one message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backends.errors import InputError, WorkspaceError
from backends.meter import Step
from backends.types import ChatResponse, ToolCall, Usage
from evals.store import RunRow, Store, StoredEmbedding
from evals.trial import Score, Trial

RUN = RunRow("20261123-101500-aaaa", "2026-11-23T10:15:00", "run", "toy", "toy.yaml", "hash", {"seed": 1})


def trial(sample: str = "s1", **changes: object) -> Trial:
    fields: dict[str, object] = {
        "candidate": "zero_shot@scripted/echo",
        "split": "test",
        "sample_id": sample,
        "output": "answer",
        "score": Score(0.5, "half"),
        "error": None,
        "usage": Usage(2, 10, 3, 4, None),
        "seconds": 0.25,
        "cached_requests": 1,
        "response_keys": ("k1", "k2"),
    }
    return Trial(**{**fields, **changes})  # type: ignore[arg-type]


def test_trials_come_out_as_they_went_in(tmp_path: Path) -> None:
    failed = trial("s2", output=None, score=None, error="too long")
    with Store.open(tmp_path / "a.db") as store:
        store.add_run(RUN)
        store.add_trial(RUN.id, trial())
        store.add_trial(RUN.id, failed)
    with Store.open(tmp_path / "a.db") as store:
        assert store.trials(RUN.id) == [trial(), failed]
        assert store.trials(RUN.id, split="dev") == []
        assert store.trials("another") == []


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a.db") as store:
        store.add_run(RUN)
        assert store.run("20261123").id == RUN.id
        assert store.run(RUN.id).options == {"seed": 1}
        with pytest.raises(InputError, match=r"there is no run 'nope'.*advisor runs"):
            store.run("nope")


def test_how_a_run_ended_is_remembered(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a.db") as store:
        store.add_run(RUN)
        store.spend_seconds(RUN.id, 5.0)
        store.finish_run(RUN.id, "done", "pick", "c")
        run = store.run(RUN.id)
        assert (run.seconds, run.status, run.verdict, run.pick) == (5.0, "done", "pick", "c")


def test_a_remembered_answer_is_marked_and_keeps_its_seconds(tmp_path: Path) -> None:
    answer = ChatResponse("yes", Usage(1, 5, 0, 1, 0.002), 1.5, "length")
    with Store.open(tmp_path / "a.db") as store:
        store.add_response("r1", "k", "scripted/echo", "{}", answer, 0.002)
        found = store.response("k")
        assert found is not None
        assert (found.text, found.seconds, found.finish_reason, found.cached) == ("yes", 1.5, "length", True)
        assert store.response("other") is None
        assert store.billed_usd("r1") == 0.002
        assert store.asked("r1") == answer.usage


def test_vectors_survive_exactly(tmp_path: Path) -> None:
    vector = np.array([0.1, -0.2, 0.3], dtype=np.float32)
    with Store.open(tmp_path / "a.db") as store:
        store.add_embedding("r1", "k", StoredEmbedding(vector, Usage(1, 3, 0, 0, 0.1), 0.5))
        found = store.embedding("k")
        assert found is not None
        np.testing.assert_array_equal(found.vector, vector)
        assert store.asked("r1").requests == 1


def fill(store: Store) -> None:
    for number in range(1000):
        store.add_trial(RUN.id, trial(f"s{number}", output="x" * 4000))


def test_a_full_disk_is_one_message_that_says_how_to_go_on(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a.db") as store:
        store.add_run(RUN)
        store._execute("PRAGMA max_page_count = 1")
        with pytest.raises(WorkspaceError, match=r"full.*Free some disk space.*--resume"):
            fill(store)
        store._execute("PRAGMA max_page_count = 100000")
        assert len(store.trials(RUN.id)) < 1000


@pytest.mark.parametrize("blocked", ["file in the way", "damaged", "other version"])
def test_an_unusable_workspace_is_one_message(tmp_path: Path, blocked: str) -> None:
    path = tmp_path / "place" / "a.db"
    if blocked == "file in the way":
        (tmp_path / "place").write_text("")
    else:
        path.parent.mkdir()
        if blocked == "damaged":
            path.write_bytes(b"this is no database, " * 500)
        else:
            with Store.open(path) as store:
                store._execute("PRAGMA user_version = 99")
    with pytest.raises(WorkspaceError, match=r"place.*(--workspace|move it away)"):
        Store.open(path)


def test_a_read_only_store_is_one_message(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a.db") as store:
        store._execute("PRAGMA query_only = 1")
        with pytest.raises(WorkspaceError, match="Make the folder writable"):
            store.add_run(RUN)


def test_steps_scoring_calls_and_probabilities_come_out_as_they_went_in(tmp_path: Path) -> None:
    whole = trial(steps=(Step("draft", "text", Usage(1, 2, 0, 3, 0.1), 0.5),), scoring=Usage(1, 5, 0, 1, None))
    answer = ChatResponse("", Usage(1, 1, 0, 1, 0.0), 0.1, "tool_calls", (ToolCall("add", '{"a": 1}', "c1"),), -0.25)
    with Store.open(tmp_path / "a.db") as store:
        store.add_run(RUN)
        store.add_trial(RUN.id, whole)
        store.add_response(RUN.id, "k", "m", "{}", answer, 0.0)
        assert store.trials(RUN.id) == [whole]
        assert store.response("k") == replace(answer, cached=True)


def test_embeddings_that_were_billed_count_as_money_spent(tmp_path: Path) -> None:
    embedding = StoredEmbedding(np.ones(2, np.float32), Usage(1, 3, 0, 0, 0.1), 0.5)
    with Store.open(tmp_path / "a.db") as store:
        store.add_embedding("r1", "k", embedding, billed_usd=0.25)
        store.add_embedding("r1", "l", embedding)
        assert store.billed_usd("r1") == 0.25


def test_calls_that_gave_nothing_count_as_money_spent(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a.db") as store:
        for usd in (0.25, 0.5):
            store.add_loss("r1", "m", Usage(1, 3, 0, 0, usd), usd)
        assert store.billed_usd("r1") == 0.75
        assert store.billed_usd("r2") == 0.0
        assert store.asked("r1") == Usage(2, 6, 0, 0, 0.75)


SINCE_2 = {"trials": ("first_token_seconds",), "responses": ("first_token_seconds",)}
SINCE_1 = {
    "trials": ("steps", "scoring", *SINCE_2["trials"]),
    "responses": ("tool_calls", "logprob", *SINCE_2["responses"]),
    "embeddings": ("billed_usd",),
}


@pytest.mark.parametrize(
    ("version", "added", "tables"), [(1, SINCE_1, ("losses", "unsettled")), (2, SINCE_2, ("unsettled",))]
)
def test_a_workspace_of_an_earlier_version_is_brought_up_to_date(
    tmp_path: Path, version: int, added: dict[str, tuple[str, ...]], tables: tuple[str, ...]
) -> None:
    with Store.open(tmp_path / "a.db") as store:
        store.add_run(RUN)
        store.add_trial(RUN.id, trial())
        for table, columns in added.items():
            for column in columns:
                store._execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        for table in tables:
            store._execute(f"DROP TABLE {table}")
        store._execute(f"PRAGMA user_version = {version}")
    with Store.open(tmp_path / "a.db") as store:
        assert store.trials(RUN.id) == [trial()]
        assert store.billed_usd(RUN.id) == 0.0
        assert store.unsettled(RUN.id) == {}
