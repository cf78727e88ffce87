"""The scorer of calls: order, values, leaving out, irrelevance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evals.scorers.base import ScorerError
from evals.scorers.tool_calls import ToolCalls
from evals.task import Sample


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def scored(output: Any, target: Any, accepted: Any = None, **options: Any) -> tuple[float, str]:
    text = output if isinstance(output, str) else json.dumps(output)
    metadata = {} if accepted is None else {"accepted": accepted}
    score = ToolCalls(**options)(text, Sample("s", "in", json.dumps(target), metadata))
    return score.value, score.reason


PARIS = call("weather", city="Paris", days=2)
ROME = call("weather", city="Rome")


@pytest.mark.parametrize(
    ("output", "target", "exact", "partial", "reason"),
    [
        ([PARIS], [PARIS], 1.0, 1.0, "all 1 calls right"),
        (PARIS, [PARIS], 1.0, 1.0, "all 1 calls right"),
        ([ROME, PARIS], [PARIS, ROME], 1.0, 1.0, "all 2 calls right"),
        ([call("weather", city=" paris ", days=2.0)], [PARIS], 1.0, 1.0, "all 1 calls right"),
        ([call("weather", city="Paris", days="2")], [PARIS], 0.0, 2 / 3, "weather: days is '\"2\"', wanted '2'"),
        ([call("weather", city="Paris", days=True)], [call("weather", city="Paris", days=1)], 0.0, 2 / 3, "days is"),
        ([call("weather", city="Paris")], [PARIS], 0.0, 0.8, "weather: days is missing"),
        ([call("weather", city="Paris", days=2, x=1)], [PARIS], 0.0, 6 / 7, "weather: x is not wanted"),
        ([call("rain", city="Paris", days=2)], [PARIS], 0.0, 0.0, "weather is not called, but rain"),
        ([PARIS, ROME], [PARIS], 0.0, 2 / 3, "weather is called, which is not wanted"),
        ([PARIS], [PARIS, ROME], 0.0, 2 / 3, "weather is not called, but weather"),
        ([PARIS, PARIS], [PARIS, ROME], 0.0, 0.7, "weather: "),
        ([], [PARIS], 0.0, 0.0, "weather is not called"),
        ([], [], 1.0, 1.0, "rightly no call"),
        ([PARIS], [], 0.0, 0.0, "weather is called, which is not wanted"),
        ("no call", [], 0.0, 0.0, "no calls"),
        ('[{"name": 3}]', [PARIS], 0.0, 0.0, "a call has a name and arguments"),
        ('[{"name": "weather", "arguments": [1]}]', [PARIS], 0.0, 0.0, "are an object"),
        ('[{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}]', [ROME], 1.0, 1.0, "all 1"),
        ("[" * 100_000, [PARIS], 0.0, 0.0, "nested too deeply"),
    ],
)
def test_calls_are_compared(output: Any, target: Any, exact: float, partial: float, reason: str) -> None:
    value, said = scored(output, target)
    assert value == exact
    assert reason in said
    assert scored(output, target, mode="partial")[0] == pytest.approx(partial)


def test_case_can_matter() -> None:
    assert scored([call("f", x="paris")], [call("f", x="Paris")])[0] == 1
    assert scored([call("f", x="paris")], [call("f", x="Paris")], case_sensitive=True)[0] == 0


def test_parallel_calls_are_paired_for_the_best() -> None:
    """Taken greedily, the first made call would take the first wanted one and leave the second a worse partner."""
    wanted = [call("f", x=1), call("f", x=1, y=2)]
    assert scored([call("f", x=1, y=2), call("f", x=1)], wanted)[0] == 1
    third = [*wanted, call("g")]
    assert scored([call("g"), call("f", x=1, y=2), call("f", x=1)], third)[0] == 1


ACCEPTED = [
    {
        "name": "book",
        "arguments": {
            "city": ["Rome", "Roma"],
            "unit": ["celsius", ""],
            "room": [{"beds": [1, 2], "view": ["sea", ""]}],
            "days": [[1, 2]],
        },
    }
]
RIGHT = {"city": "Rome", "room": {"beds": 1}, "days": [1, 2]}


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ({}, 1),
        ({"city": "roma"}, 1),
        ({"city": "Ostia"}, 0),
        ({"unit": "celsius"}, 1),
        ({"unit": "kelvin"}, 0),
        ({"room": {"beds": 2, "view": "sea"}}, 1),
        ({"room": {"beds": 3}}, 0),
        ({"room": {"view": "sea"}}, 0),
        ({"room": {"beds": 1, "bath": True}}, 0),
        ({"days": [2, 1]}, 0),
        ({"days": [1]}, 0),
    ],
)
def test_each_accepted_value_is_right(change: dict[str, Any], value: float) -> None:
    assert scored([call("book", **{**RIGHT, **change})], [call("book", **RIGHT)], ACCEPTED)[0] == value


def test_a_plain_list_inside_an_object_is_right_as_it_is() -> None:
    target = [call("f", x={"tags": ["a", "b"]})]
    assert scored(target, target)[0] == 1


@pytest.mark.parametrize("target", ["fruit", {"arguments": {}}, [{"name": "f", "arguments": [1]}]])
def test_a_target_that_is_no_calls_cannot_be_scored(target: Any) -> None:
    with pytest.raises(ScorerError, match="no list of calls"):
        scored([], target)


@pytest.mark.parametrize("accepted", [[{"name": "f"}], ["f"], [{"name": "f", "arguments": {"x": 1}}], 3])
def test_accepted_values_of_another_form_cannot_be_used(accepted: Any) -> None:
    with pytest.raises(ScorerError, match="accepted"):
        scored([], [call("f", x=1)], accepted)


def test_only_the_exact_mode_is_binary() -> None:
    assert (ToolCalls().binary, ToolCalls("partial").binary) == (True, False)
