"""A cascade: its threshold is found on dev, its dear part is asked only where needed, and all of it is paid for."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from advisor.techniques import inner, registry
from advisor.techniques.cascade import Cascade, FittedCascade
from advisor.techniques.threshold import NEVER_SURE, Point, pick_threshold, rows, shown
from backends.aside import asides
from backends.errors import RequestError
from backends.types import ChatRequest, Message, Usage
from tests import toys
from tests.techniques import TASK, Bench, samples, violations

DEAR = "scripted/dear"
TEN = dataclasses.replace(TASK, dev=samples("dev", 30))
"""Thirty dev samples, ten of each kind."""
DEAR_SCRIPT = {"rules": toys.rules(1.0), "usd_per_1m_input": 1000.0, "usd_per_1m_output": 1000.0}
SURE_RULES = [
    {"when": "|".join(toys.WORDS["fruit"]), "answer": "fruit", "logprob": math.log(0.9)},
    {"when": "|".join(toys.WORDS["metal"]), "answer": "metal", "logprob": math.log(0.6)},
    {"when": "|".join(toys.WORDS["river"]), "answer": "fruit", "logprob": math.log(0.4)},
]
"""Right about fruit (sure), right about metal (less sure), wrong about rivers (unsure)."""
AGREEING_RULES = [
    {"when": "|".join(toys.WORDS["fruit"]), "answers": ["fruit"]},
    {"when": "|".join(toys.WORDS["metal"]), "answers": ["metal", "metal", "metal", "metal", "river"]},
    {"when": "|".join(toys.WORDS["river"]), "answers": ["fruit", "fruit", "metal", "fruit", "metal"]},
]
"""Of five answers five, four and three agree."""


def bench(folder: Path, rules: Any = SURE_RULES, dear: Any = DEAR_SCRIPT) -> Bench:
    return Bench(folder, script={"rules": rules}, scripts={DEAR: dear})


async def fitted_cascade(at: Bench, task: Any = TEN, **parameters: Any) -> FittedCascade:
    fitted = await at.fit(Cascade(**{"dear": DEAR, **parameters}), task)
    assert isinstance(fitted, FittedCascade)
    return fitted


async def test_the_planted_threshold_is_found_on_dev(tmp_path: Path) -> None:
    fitted = await fitted_cascade(bench(tmp_path))
    assert fitted.threshold == pytest.approx(0.5), "between 0.4, where the cheap model errs, and 0.6"
    assert fitted.picked is not None
    assert (fitted.picked.score, fitted.picked.answered_cheaply) == (1.0, pytest.approx(2 / 3))
    table = [(row["answered_cheaply"], row["score"]) for row in fitted.parameters["table"]]
    assert table == [(1.0, pytest.approx(2 / 3)), (pytest.approx(2 / 3), 1.0), (pytest.approx(1 / 3), 1.0), (0.0, 1.0)]


async def test_self_agreement_finds_its_planted_threshold(tmp_path: Path) -> None:
    fitted = await fitted_cascade(bench(tmp_path, AGREEING_RULES), sure_by="self_agreement")
    assert fitted.threshold == pytest.approx(0.7), "between three fifths and four fifths"


async def test_only_unsure_answers_are_asked_of_the_dear_model(tmp_path: Path) -> None:
    at = bench(tmp_path)
    fitted = await fitted_cascade(at)
    before = len(at.open(DEAR).requests)
    answers = {}
    for sample in TEN.test:
        meter = at.meter()
        answers[sample.id] = await fitted.solve(sample, meter)
        names = [step.name for step in meter.steps]
        assert names == (["cheap", "sure", "dear"] if sample.target == "river" else ["cheap", "sure"])
        assert sum((step.usage for step in meter.steps), Usage()) == meter.usage
        assert sum(step.seconds for step in meter.steps) == pytest.approx(meter.seconds)
    assert answers == {sample.id: sample.target for sample in TEN.test}
    assert len(at.open(DEAR).requests) - before == 3


async def test_a_dear_answer_is_paid_for_on_top_of_the_cheap_one(tmp_path: Path) -> None:
    at = bench(tmp_path)
    fitted = await fitted_cascade(at)
    river = next(sample for sample in TEN.test if sample.target == "river")
    meter = at.meter()
    await fitted.solve(river, meter)
    cheap, sure, dear = meter.steps
    assert (cheap.output, sure.output, dear.output) == ("fruit", repr(math.exp(math.log(0.4))), "river")
    assert (sure.usage, sure.seconds) == (Usage(), 0.0)
    assert dear.usage.cost_usd == pytest.approx(1000 * (cheap.usage.cost_usd or 0))
    assert meter.usage.cost_usd == pytest.approx((cheap.usage.cost_usd or 0) + (dear.usage.cost_usd or 0))


async def test_both_parts_answer_each_dev_sample_once(tmp_path: Path) -> None:
    at = bench(tmp_path)
    await fitted_cascade(at)
    tried = Counter((trial.variant, trial.usage.requests) for trial in at.tried if "reason" not in trial.variant)
    assert tried["fit: cheap by label_probability", 1] == tried["fit: dear", 1] == 30
    assert at.requests == at.metered


async def test_drawn_answers_differ_and_take_as_long_as_the_slowest(tmp_path: Path) -> None:
    at = bench(tmp_path, AGREEING_RULES)
    fitted = await fitted_cascade(at, sure_by="self_agreement", first="few_shot", threshold=0.0)
    before, meter = len(at.chat.requests), at.meter()
    await fitted.solve(TASK.test[1], meter)
    asked = at.chat.requests[before:]
    assert len({(request.seed, request.repeat) for request in asked}) == 5
    assert all(request.temperature > 0 for request in asked)
    assert meter.usage.requests == 5
    single = (meter.usage.input_tokens + meter.usage.output_tokens) / 5 / 1000
    assert meter.seconds == pytest.approx(single)


async def test_a_model_without_probabilities_is_judged_by_agreement(tmp_path: Path) -> None:
    at = bench(tmp_path, AGREEING_RULES)
    fitted = await fitted_cascade(at)
    assert fitted.sure_by == "self_agreement"
    assert fitted.parameters["note"] == "the model tells no probabilities: certainty is self-agreement"
    assert fitted.threshold == pytest.approx(0.7)


async def test_a_given_threshold_is_kept_and_asks_nothing_but_whether_probabilities_are_told(tmp_path: Path) -> None:
    at = bench(tmp_path)
    fitted = await fitted_cascade(at, threshold=0.95)
    assert (fitted.threshold, fitted.picked) == (0.95, None)
    variants = [trial.variant for trial in at.tried]
    assert (variants.count("fit: cheap by label_probability"), variants.count("fit: dear")) == (1, 0)
    assert [await fitted.solve(sample, at.meter()) for sample in TASK.test[:3]] == [s.target for s in TASK.test[:3]]


async def test_a_useless_cheap_model_leaves_everything_to_the_dear_one(tmp_path: Path) -> None:
    wrong = [{"when": "", "answer": "none", "logprob": -0.01}]
    fitted = await fitted_cascade(bench(tmp_path, wrong))
    assert fitted.threshold == NEVER_SURE


async def test_a_cheap_model_that_is_as_good_answers_everything(tmp_path: Path) -> None:
    right = [{**rule, "logprob": -0.1 * number} for number, rule in enumerate(toys.rules(1.0), start=1)]
    fitted = await fitted_cascade(bench(tmp_path, right))
    assert (fitted.threshold, fitted.picked and fitted.picked.answered_cheaply) == (0.0, 1.0)


async def test_nothing_known_on_dev_is_no_reason_for_cheap_answers(tmp_path: Path) -> None:
    fitted = await fitted_cascade(bench(tmp_path, dear={"rules": [{"error": "down"}]}))
    assert fitted.threshold == NEVER_SURE
    assert "no dev sample was answered by both parts" in fitted.note


async def test_a_dearer_technique_on_the_same_model_is_a_cascade_too(tmp_path: Path) -> None:
    rules = [
        {"when": "|".join(toys.WORDS["river"]), "needs": "train message", "answer": "river", "logprob": -0.1},
        *SURE_RULES,
    ]
    at = bench(tmp_path, rules)
    fitted = await fitted_cascade(at, dear=None, first="zero_shot", then="few_shot")
    assert list(at.chats) == ["scripted/count"]
    meter = at.meter()
    assert await fitted.solve(TASK.test[2], meter) == "river", "which only worked examples teach"
    assert [step.name for step in meter.steps] == ["cheap", "sure", "dear"]
    assert fitted.parameters["dear"] is None


async def test_a_failing_dear_model_has_been_paid_for(tmp_path: Path) -> None:
    at = bench(tmp_path, dear={"rules": [{"needs": "test message", "error": "down"}, *toys.rules(1.0)]})
    fitted = await fitted_cascade(at)
    meter = at.meter()
    with pytest.raises(RequestError, match="down"):
        await fitted.solve(TASK.test[2], meter)
    assert (meter.usage.requests, [step.name for step in meter.steps]) == (1, ["cheap", "sure", "dear"])


@pytest.mark.parametrize(
    "parameters",
    [
        {"dear": DEAR},
        {"dear": DEAR, "first": "knn_few_shot", "then": "rag+chain"},
        {"dear": DEAR, "sure_by": "self_agreement", "first": "chain"},
        {"then": "few_shot", "threshold": 0.5},
    ],
)
async def test_cascades_keep_the_contract(tmp_path: Path, parameters: dict[str, Any]) -> None:
    assert await violations(Cascade(**parameters), tmp_path) == []


async def test_fitting_is_the_same_again_and_asks_nothing_twice(tmp_path: Path) -> None:
    at = bench(tmp_path)
    first = await fitted_cascade(at)
    asked = at.requests
    again = await fitted_cascade(at)
    assert (again.parameters, at.requests) == (first.parameters, asked)


def test_a_cascade_says_when_it_makes_no_sense() -> None:
    assert Cascade().unfit(TASK) == "it needs a second, dearer model"
    assert Cascade(dear=DEAR).unfit(TASK) is None
    assert Cascade(then="few_shot").unfit(TASK) is None
    unlabelled = dataclasses.replace(TASK, labels=(), train=())
    assert "no labels" in (Cascade(dear=DEAR, sure_by="label_probability").unfit(unlabelled) or "")
    assert Cascade(dear=DEAR, first="few_shot").unfit(unlabelled) == "few_shot: there are no train samples to show"


def test_a_cascade_names_what_it_asks() -> None:
    assert Cascade(dear=DEAR).others(TASK) == (DEAR,)
    assert (Cascade().others(TASK), Cascade().embeds) == ((), False)
    assert (Cascade(first="knn_few_shot").embeds, Cascade(then="rag+chain").embeds) == (True, True)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"first": "zero_shoot"}, "'zero_shoot' cannot be part of a cascade; did you mean 'zero_shot'?"),
        ({"then": "fine_tune"}, "'fine_tune' cannot be part of a cascade; known are zero_shot"),
        ({"then": "cascade"}, "'cascade' cannot be part of a cascade"),
        ({"threshold": 2}, "threshold is 2, but certainties lie between 0 and 1"),
        ({"sure_by": "luck"}, "'label_probability' or 'self_agreement'"),
    ],
)
def test_a_cascade_that_cannot_be_made_says_why(parameters: dict[str, Any], said: str) -> None:
    assert said in registry.problems("cascade", parameters)[0]


def test_every_technique_that_trains_nothing_can_be_part_of_a_cascade() -> None:
    parts = {name for name in registry.names() if not registry.make(name, {}).tunes} - {"cascade"}
    assert parts <= set(inner.names())


def points(*rows_of: tuple[float | None, float, float]) -> list[Point]:
    return [Point(sure, cheap, dear, 1.0, 10.0) for sure, cheap, dear in rows_of]


@pytest.mark.parametrize(
    ("made", "threshold", "cheaply", "score"),
    [
        (points((0.9, 1, 1), (0.5, 0, 1)), 0.7, 0.5, 1.0),
        (points((0.9, 1, 1), (0.5, 1, 1)), 0.0, 1.0, 1.0),
        (points((0.9, 0, 1), (0.5, 1, 1)), NEVER_SURE, 0.0, 1.0),
        (points((0.9, 1, 0), (0.5, 0, 1), (0.1, 0, 1)), 0.3, 2 / 3, 2 / 3),
        (points((0.9, 1, 1), (None, 0, 1)), 0.0, 0.5, 1.0),
        (points((None, 1, 1), (None, 1, 1)), NEVER_SURE, 0.0, 1.0),
        (points((0.9, 0.4, 0.1), (0.8, 0.2, 0.5)), 0.0, 1.0, 0.3),
        (points((0.5, 1, 1), (0.5, 0, 1)), NEVER_SURE, 0.0, 1.0),
    ],
)
def test_the_threshold_with_the_fewest_dear_answers_that_loses_nothing_is_picked(
    made: list[Point], threshold: float, cheaply: float, score: float
) -> None:
    picked = pick_threshold(rows(made))
    assert picked.threshold == pytest.approx(threshold)
    assert picked.answered_cheaply == pytest.approx(cheaply)
    assert picked.score == pytest.approx(score)


def test_the_table_tells_what_each_threshold_costs() -> None:
    found = rows(points((0.9, 1, 1), (0.5, 0, 1)))
    assert [row.usd_per_1k_requests for row in found] == [1000.0, 6000.0, 11000.0]
    unknown = dataclasses.replace(points((0.1, 1, 1))[0], dear_usd=None)
    assert [row.usd_per_1k_requests for row in rows([unknown])] == [1000.0, None]
    assert rows([]) == ()


def test_a_long_table_is_shown_in_part() -> None:
    found = rows(points(*((number / 100, 1.0, 1.0) for number in range(100))))
    part = shown(found, found[37])
    assert (found[0], found[37], found[-1]) == tuple(row for row in part if row in (found[0], found[37], found[-1]))
    assert len(part) <= 14
    assert shown(found[:5], found[1]) == found[:5]


async def test_parts_of_work_count_together_also_when_one_fails(tmp_path: Path) -> None:
    at = Bench(tmp_path, script={"rules": [{"when": "bad", "error": "refused"}], "default": "fine"})
    meter = at.meter()
    with asides(meter, on="scripted/other") as (part,):
        await part.complete(ChatRequest((Message("user", "good"),)))
        with pytest.raises(RequestError):
            await part.complete(ChatRequest((Message("user", "bad"),)))
    assert (meter.usage.requests, len(meter.response_keys), meter.seconds) == (1, 1, part.seconds)
    assert [len(chat.requests) for chat in at.chats.values()] == [0, 2]
    assert [response.text for response in part.heard] == ["fine"]


async def test_what_a_part_looked_up_is_kept_and_costs_nothing_twice(tmp_path: Path) -> None:
    at = bench(tmp_path)
    fitted = await fitted_cascade(at, TASK, first="zero_shot", then="rag", threshold=1.0)
    meter = at.meter()
    await fitted.solve(TASK.test[0], meter)
    steps = {step.name: step for step in meter.steps}
    assert json.loads(steps["retrieve"].output)
    assert steps["retrieve"].usage == Usage()
    assert sum(step.seconds for step in meter.steps) <= meter.seconds + 1e-9
