"""Which run is meant by an id, by the beginning of one, and by `last`."""

from __future__ import annotations

from typing import Any

import pytest

from backends.errors import InputError
from evals.naming import Last, find_run, may_mean
from evals.store import RunRow


def row(number: int, **changes: Any) -> RunRow:
    given: dict[str, Any] = {"kind": "run", "scenario": "toy", "status": "done"} | changes
    return RunRow(
        id=f"2026112{number}-1",
        created=f"2026-11-2{number}",
        scenario_file="toy.yaml",
        scenario_hash="0",
        options={},
        **given,
    )


RUNS = [
    row(1),
    row(2, kind="compare", status="interrupted"),
    row(3, kind="tune", scenario="other"),
    row(4, kind="gate"),
    row(5, kind="probe"),
]


@pytest.mark.parametrize(
    ("last", "number"),
    [
        (Last(), 3),
        (Last(scenario="toy"), 2),
        (Last(statuses=("done",), scenario="toy"), 1),
        (Last(kinds=("gate",)), 4),
        (Last(fits=lambda run: "1-1" in run.id), 1),
    ],
)
def test_last_is_the_newest_that_fits_and_no_probe(last: Last, number: int) -> None:
    assert find_run(RUNS, "last", "w", last) == RUNS[number - 1]


def test_where_none_fits_it_is_said_which_was_looked_for() -> None:
    wanted = Last("interrupted `tune`", ("tune",), ("interrupted",), "toy", remedy="Begin one.")
    with pytest.raises(InputError, match=r"^w: the workspace has no interrupted `tune` of toy\. Begin one\."):
        find_run(RUNS, "last", "w", wanted)
    with pytest.raises(InputError, match=r"the workspace has no run\. `advisor runs` lists them"):
        find_run([], "last", "w", Last())


def test_an_id_and_its_beginning_mean_a_run_of_any_kind() -> None:
    assert find_run(RUNS, "20261124", "w", Last()).kind == "gate"
    assert find_run(RUNS, "20261125-1", "w").kind == "probe"
    assert find_run([*RUNS, row(1, kind="probe")][-5:], "20261121-1", "w").kind == "probe"
    with pytest.raises(InputError, match="5 runs begin with '2026112'"):
        find_run(RUNS, "2026112", "w")


def test_where_last_has_no_meaning_it_is_no_run() -> None:
    with pytest.raises(InputError, match="there is no run 'last'"):
        find_run(RUNS, "last", "w")


def test_a_name_may_have_meant_a_run() -> None:
    assert may_mean("last", "20261121-1")
    assert may_mean("2026112", "20261121-1")
    assert not may_mean("20261122", "20261121-1")
