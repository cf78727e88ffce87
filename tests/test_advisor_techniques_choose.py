"""Choosing on dev: successive halving that is cheap, paired and indifferent to nothing but errors, score and price."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.techniques.choose import Tried, as_rows, best_first, best_on_dev, from_rows, shuffled, survivors
from backends.errors import RequestError
from backends.meter import Meter
from backends.types import ChatRequest, Message
from evals.runner import Solve
from evals.task import Sample
from tests.techniques import Bench, samples

DEV = samples("dev", 60)


def option(right: float, words: int = 1, fails: bool = False) -> Solve:
    """Answers rightly on the first share of numbers, with a prompt of so many words."""

    async def solve(sample: Sample, models: Meter) -> str:
        await models.complete(ChatRequest((Message("user", " ".join(["word"] * words)),)))
        number = int(sample.id.removeprefix("dev-"))
        if fails and number % 2:
            raise RequestError("refused")
        return sample.target if number % 10 < right * 10 else "wrong"

    return solve


async def choose(
    folder: Path, options: Mapping[str, Solve], dev: Sequence[Sample] = DEV
) -> tuple[str, tuple[Tried, ...], Bench]:
    bench = Bench(folder)
    winner, tried = await best_on_dev(options, bench.context(), dev)
    bench.close()
    return winner, tried, bench


async def test_the_better_half_goes_on_and_the_best_wins(tmp_path: Path) -> None:
    options = {"none": option(0.0), "some": option(0.5), "most": option(0.9), "few": option(0.2)}
    winner, tried, bench = await choose(tmp_path, options)
    assert winner == "most"
    assert [(row.option, row.n) for row in tried] == [("none", 12), ("some", 36), ("most", 36), ("few", 12)]
    assert bench.requests == bench.metered == 4 * 12 + 2 * 24, "nothing is asked twice"
    assert tried[0].score == 0.0
    assert tried[2].score == pytest.approx(0.9, abs=0.1)


async def test_all_options_of_a_round_see_the_same_samples(tmp_path: Path) -> None:
    _, _, bench = await choose(tmp_path, {"a": option(1.0), "b": option(0.9), "c": option(0.0)})
    seen = {name: {trial.sample_id for trial in bench.tried if trial.variant.endswith(f": {name}")} for name in "abc"}
    assert seen["a"] == seen["b"] > seen["c"]


async def test_one_option_or_no_dev_sample_asks_nothing(tmp_path: Path) -> None:
    for number, (options, dev) in enumerate([({"a": option(1.0)}, DEV), ({"a": option(0), "b": option(1)}, ())]):
        winner, tried, bench = await choose(tmp_path / str(number), options, dev)
        assert (winner, tried, bench.requests) == ("a", (), 0)


async def test_ties_go_to_the_cheaper_and_then_to_the_earlier_option(tmp_path: Path) -> None:
    options = {"dear": option(0.5, words=9), "cheap": option(0.5, words=2), "cheap too": option(0.5, words=2)}
    winner, tried, _ = await choose(tmp_path, options)
    assert winner == "cheap"
    assert tried[1].tokens is not None
    assert tried[0].tokens == tried[1].tokens + 7


async def test_an_option_that_fails_ranks_below_one_that_is_wrong(tmp_path: Path) -> None:
    winner, tried, _ = await choose(tmp_path, {"fails": option(1.0, fails=True), "wrong": option(0.0)})
    assert winner == "wrong"
    assert tried[0].errors > 0
    assert tried[0].score == 1.0, "errors are counted apart, never as wrong answers"


async def test_an_option_without_any_answer_has_no_score_and_no_price(tmp_path: Path) -> None:
    async def refused(sample: Sample, models: Meter) -> str:
        raise RequestError("refused")

    winner, tried, _ = await choose(tmp_path, {"refused": refused, "wrong": option(0.0)})
    assert winner == "wrong"
    assert tried[0] == Tried("refused", 36, 36, None, None)


async def test_few_dev_samples_are_all_used_in_one_round(tmp_path: Path) -> None:
    winner, tried, _ = await choose(tmp_path, {"a": option(0.0), "b": option(1.0)}, DEV[:5])
    assert (winner, [row.n for row in tried]) == ("b", [5, 5])


async def test_the_same_seed_makes_the_same_choice_of_samples(tmp_path: Path) -> None:
    first, second = [await choose(tmp_path / str(i), {"a": option(0.5), "b": option(0.4)}) for i in range(2)]
    assert first[:2] == second[:2]
    assert shuffled(DEV, 1, "choose") == shuffled(DEV, 1, "choose") != shuffled(DEV, 2, "choose")


def test_rows_survive_saving() -> None:
    tried = (Tried("a", 12, 1, 0.5, 20.0), Tried("b", 12, 12, None, None))
    assert from_rows(as_rows(tried)) == tried


rows = st.builds(
    Tried,
    option=st.text(),
    n=st.just(12),
    errors=st.integers(0, 12),
    score=st.none() | st.floats(0, 1),
    tokens=st.none() | st.floats(0, 1e4),
)


@given(st.lists(rows, min_size=1, max_size=8, unique_by=lambda row: row.option))
def test_the_best_is_beaten_by_no_option(found: list[Tried]) -> None:
    order = best_first(found)
    assert sorted(order) == sorted(row.option for row in found)
    best = next(row for row in found if row.option == order[0])
    for row in found:
        assert best.errors <= row.errors
        if best.errors == row.errors:
            assert (best.score or 0.0) >= (row.score or 0.0)
    assert (
        best_first([dataclasses.replace(row, tokens=1.0, score=0.5, errors=0) for row in found])[0] == found[0].option
    )


@given(st.integers(1, 50))
def test_a_round_leaves_at_least_two_to_compare_and_at_most_half(options: int) -> None:
    left = survivors(options)
    assert min(options, 2) <= left <= max(2, (options + 1) // 2)
