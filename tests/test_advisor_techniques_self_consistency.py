"""Self-consistency: answers that differ, a vote that is fair, and a share that says how sure the model is."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.techniques import registry
from advisor.techniques.self_consistency import SelfConsistency, vote
from backends.types import ChatRequest, ChatResponse
from evals.task import Sample
from tests.techniques import TASK, Bench, CountingChat

OPEN = dataclasses.replace(TASK, labels=())


class SamplingChat(CountingChat):
    """Answers by the number of the request: `answers[repeat]`."""

    answers: tuple[str, ...] = ()

    async def complete(self, request: ChatRequest) -> ChatResponse:
        response = await super().complete(request)
        return dataclasses.replace(response, text=self.answers[request.repeat % 1000 % len(self.answers)])


def bench_of(folder: Path, *answers: str) -> Bench:
    bench = Bench(folder)
    chat = SamplingChat("scripted/count", bench.script)
    chat.answers = answers
    bench.chats["scripted/count"] = chat
    return bench


@pytest.mark.parametrize(
    ("answers", "answer", "share"),
    [
        (["a", "b", "b"], "b", 2 / 3),
        (["b", "a"], "b", 0.5),
        (["a", "b", "b", "a", "c"], "a", 0.4),
        (["  Yes. ", "no", "yes"], "  Yes. ", 2 / 3),
        (["5", "$5.00", "five"], "5", 2 / 3),
        (["1,000", "1000.0"], "1,000", 1.0),
        (["50%", "50"], "50%", 0.5),
        (["iPhone 12", "Galaxy 12", "iPhone 12"], "iPhone 12", 2 / 3),
        (['{"a": 1, "b": 2}', '{"b": 2, "a": 1}', "{}"], '{"a": 1, "b": 2}', 2 / 3),
        (['{"a": 1', '{"a": 1'], '{"a": 1', 1.0),
        (["[" * 100_000, "x"], "[" * 100_000, 0.5),
        (["", ""], "", 1.0),
    ],
)
def test_the_majority_wins_and_ties_go_to_the_first(answers: list[str], answer: str, share: float) -> None:
    found = vote(answers)
    assert (found.answer, found.share) == (answer, pytest.approx(share))


@given(st.lists(st.sampled_from(["a", "A.", "b", "1", "1.0", "c d"]), min_size=1, max_size=9))
def test_no_answer_has_more_votes_than_the_winner(answers: list[str]) -> None:
    found = vote(answers)
    assert found.answer in answers
    assert found.share * len(answers) >= max(Counter(answers).values())
    assert 0 < found.share <= 1


async def test_every_sample_is_asked_apart_and_the_same_again_for_the_same_seed(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "river", "metal", "metal")
    fitted = await bench.fit(SelfConsistency(n=3))
    assert bench.requests == 0
    assert await fitted.solve(TASK.test[0], bench.meter()) == "metal"
    first = list(bench.chat.requests)
    assert len({request.as_json() for request in first}) == 3
    assert len({request.seed for request in first}) == 3
    assert {(request.temperature, request.choices) for request in first} == {(0.7, TASK.labels)}
    await fitted.solve(TASK.test[0], bench.meter())
    assert bench.chat.requests[3:] == first


async def test_answers_are_asked_side_by_side(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "metal")
    fitted = await bench.fit(SelfConsistency(n=4))
    meter = bench.meter()
    await fitted.solve(TASK.test[0], meter)
    tokens = meter.usage.input_tokens + meter.usage.output_tokens
    assert meter.usage.requests == 4
    assert meter.seconds == pytest.approx(tokens / 4 / 1000), "the user waits for one, and pays for all"


async def test_open_answers_are_thought_about_and_read_after_the_marker(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "Two and two.\nAnswer: 4", "Perhaps.\nAnswer: 5", "Sum.\nAnswer: 4.0")
    fitted: Any = await bench.fit(SelfConsistency(n=3), OPEN)
    found = await fitted.ask(OPEN.test[0], bench.meter())
    assert (found.answer, found.share) == ("4", pytest.approx(2 / 3))
    assert "Answer:" in bench.chat.prompts[0]


async def test_the_fitted_vote_is_saved_whole(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "bench", "metal", "river")
    fitted = await bench.fit(SelfConsistency(n=7, temperature=0.3), seed=5)
    fitted.save(tmp_path)
    assert registry.load_fitted(tmp_path) == fitted


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"n": 1}, "a vote needs 2 to 100"), ({"n": 101}, "2 to 100"), ({"temperature": 0.0}, "without sampling")],
)
def test_settings_that_make_no_vote_are_refused(parameters: dict[str, Any], said: str) -> None:
    assert said in registry.problems("self_consistency", parameters)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"labels": ()}, None),
        ({"labels": (), "output_schema": "{}"}, "seldom agree"),
        ({"labels": (), "train": (Sample("t", "x", "word " * 30),), "dev": ()}, "answers of 30 words"),
        ({"labels": (), "train": (), "dev": ()}, None),
    ],
)
def test_answers_that_cannot_agree_leave_it_out(changes: dict[str, Any], said: str | None) -> None:
    why = SelfConsistency().skip(dataclasses.replace(TASK, **changes))
    assert why is None if said is None else said in str(why)
