"""What techniques say they will ask, next to what they ask."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from advisor.candidates import Candidate
from advisor.estimating.counting import Counter
from advisor.estimating.demand import Demand, Demands, added
from advisor.estimating.gauges import Gauges
from advisor.scenario.load import load_scenario
from advisor.span import ONCE, Span
from advisor.techniques import registry
from advisor.techniques.forecast import Plan, Prospect
from backends.types import Usage
from evals.task import Task
from tests import toys
from tests.techniques import DOCUMENTS, TASK, Bench

OPEN = dataclasses.replace(
    TASK,
    labels=(),
    train=tuple(dataclasses.replace(s, target=f"it is {s.target} or so") for s in TASK.train),
)
"""The same questions with free answers."""
EXACT = {
    "zero_shot": ({"instruction": "plain"}, TASK),
    "zero_shot in sections": ({"instruction": "structured"}, TASK),
    "few_shot": ({"k": 5}, TASK),
    "few_shot, chosen": ({}, TASK),
    "knn_few_shot": ({"k": 4}, TASK),
    "knn_few_shot, chosen": ({}, TASK),
    "structured_output": ({}, TASK),
    "self_consistency": ({"n": 3}, TASK),
    "rag": ({"top_k": 2}, TASK),
    "rag, chosen": ({}, TASK),
    "rag+knn_few_shot": ({"k": 2, "top_k": 1}, TASK),
    "function_calling": ({}, TASK),
}
"""Techniques whose number of requests is known beforehand."""
RANGE = {
    "zero_shot, thought first": ({"instruction": "reason_then_answer"}, TASK),
    "zero_shot, chosen": ({}, TASK),
    "chain": ({}, OPEN),
    "chain, revise": ({"plan": "revise"}, OPEN),
    "rag+chain": ({"top_k": 1, "plan": "decompose"}, OPEN),
    "optimized_prompt": ({"max_calls": 30}, TASK),
    "cascade": ({"dear": "scripted/dear"}, TASK),
    "cascade of techniques": ({"then": "few_shot", "sure_by": "self_agreement"}, TASK),
}
"""Those that ask as often as the answers make them ask."""


def counter_of(folder: Path, task: Task) -> Counter:
    path = toys.scenario(folder / "s", "scripted/echo")
    return Counter(task, Gauges(load_scenario(path)))


def foreseen(name: str, parameters: dict[str, Any], task: Task, folder: Path) -> tuple[Plan, Demands, Demands]:
    """The plan, what fitting asks of chat models, and what answering all test samples asks."""
    technique = registry.make(name, parameters)
    (folder / "s").mkdir(parents=True)
    model = toys.script(folder / "s", "count", toys.rules(1.0))
    dear = toys.script(folder / "s", "dear", toys.rules(1.0))
    counter = counter_of(folder, task)
    candidate = Candidate("c", _on(technique, dear), model)
    plan = candidate.technique.forecast(task, Prospect(1, native_tools=False))
    assert plan is not None
    fitting = added(counter.rounds(plan.rounds, candidate), counter.once(plan.asks, candidate))
    units = [counter.per_sample(way, task.test, candidate) for way in plan.ways]
    return plan, _chats(fitting), _chats({"all": _widest([_sum(unit) * len(task.test) for unit in map(_chats, units)])})


def _on(technique: Any, dear: str) -> Any:
    return dataclasses.replace(technique, dear=dear) if getattr(technique, "dear", None) else technique


def _chats(demands: Demands) -> Demands:
    return {name: demand for name, demand in demands.items() if not name.startswith("embedder ")}


def _sum(demands: Demands) -> Demand:
    return sum(demands.values(), Demand())


def _widest(demands: list[Demand]) -> Demand:
    first, *rest = demands
    return first.one_of(rest)


async def asked(name: str, parameters: dict[str, Any], task: Task, folder: Path) -> tuple[Usage, Usage]:
    """What fitting and answering all test samples took of chat models."""
    bench = Bench(folder / "bench", script={"rules": [*LOGPROBS, *toys.rules(1.0)]})
    fitted = await bench.fit(registry.make(name, parameters), task)
    fit = _usage(bench)
    for sample in task.test:
        await fitted.solve(sample, bench.meter())
    whole = _usage(bench)
    bench.close()
    return fit, Usage(
        whole.requests - fit.requests,
        whole.input_tokens - fit.input_tokens,
        0,
        whole.output_tokens - fit.output_tokens,
    )


LOGPROBS = [{"when": "(apple|pear|plum|cherry)", "needs": "Sort the message", "answer": "fruit", "logprob": -0.5}]


def _usage(bench: Bench) -> Usage:
    return sum(
        (Usage(1, chat.worst_case(request).input_tokens) for chat in bench.chats.values() for request in chat.requests),
        Usage(),
    )


def holds(span: Span, value: float, slack: float = 0.0) -> bool:
    return span.low * (1 - slack) - 1e-9 <= value <= span.high * (1 + slack) + 1e-9


@pytest.mark.parametrize("name", EXACT)
async def test_requests_that_can_be_known_beforehand_are(name: str, tmp_path: Path) -> None:
    parameters, task = EXACT[name]
    technique = name.partition(",")[0].partition(" ")[0]
    _, fitting, answering = foreseen(technique, parameters, task, tmp_path)
    fit, answered = await asked(technique, parameters, task, tmp_path)
    assert _sum(fitting).requests.low - 1e-9 <= fit.requests <= _sum(fitting).requests.high + 1e-9
    assert holds(_sum(answering).requests, answered.requests)
    # Which examples or passages are found is not known, only how long they are on average.
    assert holds(_sum(answering).input_tokens, answered.input_tokens, slack=0.1)
    assert holds(_sum(fitting).input_tokens, fit.input_tokens, slack=0.1)


@pytest.mark.parametrize("name", RANGE)
async def test_requests_that_depend_on_answers_lie_in_the_range(name: str, tmp_path: Path) -> None:
    parameters, task = RANGE[name]
    technique = name.partition(",")[0].partition(" ")[0]
    _, fitting, answering = foreseen(technique, parameters, task, tmp_path)
    fit, answered = await asked(technique, parameters, task, tmp_path)
    assert holds(_sum(fitting).requests, fit.requests)
    assert holds(_sum(answering).requests, answered.requests)


def test_every_technique_tells_a_plan() -> None:
    for name in registry.names():
        plan = registry.make(name, {"dear": "scripted/dear"} if name == "cascade" else {}).forecast(
            TASK, Prospect(1, native_tools=False)
        )
        assert plan is not None
        assert plan.ways
        assert all(way.asks(sample) for way in plan.ways for sample in TASK.test)


def test_settled_ways_have_nothing_to_choose() -> None:
    for name in registry.names():
        plan = registry.make(name, {"dear": "scripted/dear"} if name == "cascade" else {}).forecast(
            TASK, Prospect(1, native_tools=False)
        )
        assert plan is not None
        for way in plan.ways:
            settled = None if way.settled is None else way.settled.forecast(TASK, Prospect(1, native_tools=False))
            assert settled is None or settled.rounds == ()


def test_forecasts_are_the_same_for_one_seed_and_differ_for_another() -> None:
    def prompts(seed: int) -> list[str]:
        plan = registry.make("knn_few_shot", {"k": 4}).forecast(TASK, Prospect(seed, native_tools=False))
        assert plan is not None
        return [json.dumps(ask.request.as_json()) for sample in TASK.test for ask in plan.ways[0].asks(sample)]

    assert prompts(1) == prompts(1)
    assert prompts(1) != prompts(2)


def test_native_tools_are_asked_for_where_the_model_takes_them() -> None:
    technique = registry.make("function_calling", {})
    for native in (True, False):
        plan = technique.forecast(TASK, Prospect(1, native_tools=native))
        assert plan is not None
        (ask,) = plan.ways[0].asks(TASK.test[0])
        assert bool(ask.request.tools) == native
        assert ask.times == ONCE


def test_forecasts_of_retrieval_embed_every_document_once_for_each_size() -> None:
    plan = registry.make("rag", {}).forecast(TASK, Prospect(1, native_tools=False))
    assert plan is not None
    counts = {corpus.name: corpus.count for corpus in plan.corpora}
    assert counts == {"passages 200/40": len(DOCUMENTS), "passages 100/25": len(DOCUMENTS), "questions": 36}
    words = registry.make("rag", {"mode": "bm25", "top_k": 1}).forecast(TASK, Prospect(1, native_tools=False))
    assert words is not None
    assert words.corpora == ()
    assert not words.ways[0].embeds
