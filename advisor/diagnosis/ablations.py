"""The changed candidates whose answers show what was missing: one thing is put right, everything else stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from advisor.diagnosis.case import Case, accepts
from advisor.diagnosis.failures import Failure
from advisor.diagnosis.gold import (
    documents_text,
    gold_steps,
    gold_tool_results,
    results_text,
    steps_text,
)
from advisor.diagnosis.labels import TrainNeighbours
from advisor.techniques.base import Ablatable, Given, GivenKind
from backends.meter import Meter
from backends.types import ChatRequest
from evals.runner import Solve
from evals.task import Sample

NEIGHBOURS = "train neighbours"
DOCUMENTS = "gold documents"
TOOLS = "gold tool results"
STEPS = "gold steps"
TEMPERATURES = {"temperature 0.3": 0.3, "temperature 0.7": 0.7}

_NOTHING_GOLD = {
    DOCUMENTS: "no failure looked at names documents of this task in `supporting_doc_ids`, and none could be found by "
    "its answer",
    TOOLS: "no failure looked at has a list `tool_results`",
    STEPS: "no failure looked at has `steps` that do not yet state the answer",
}


@dataclass(frozen=True, slots=True)
class Ablation:
    """One change, and the failures it is tried on."""

    name: str
    """How it is stored and shown."""
    solve: Solve
    samples: tuple[Sample, ...]
    """Empty when it does not apply."""
    note: str = ""
    """Why it does not apply."""
    rewrite: Callable[[ChatRequest], ChatRequest] | None = None
    """Changes every request."""


def plan(case: Case, wrong: Sequence[Failure], *, embeds: bool, seed: int) -> list[Ablation]:
    """The ablations of a candidate's wrong answers; none asks a model yet.

    `embeds` says whether the candidate's meter has an embedder.
    """
    samples = tuple(failure.sample for failure in wrong)
    return [
        _neighbours(case, samples, embeds),
        _given(case, DOCUMENTS, "documents", {one.id: case.gold[one.id] for one in samples}, samples),
        _given(case, TOOLS, "tool_results", {one.id: gold_tool_results(one) for one in samples}, samples),
        _given(case, STEPS, "steps", {one.id: gold_steps(one, case.task) for one in samples}, samples),
        *(
            Ablation(name, case.fitted.solve, samples, rewrite=warmer(temperature, seed))
            for name, temperature in TEMPERATURES.items()
        ),
    ]


def warmer(temperature: float, seed: int) -> Callable[[ChatRequest], ChatRequest]:
    """Changes a request to another temperature, and to random draws of its own, independent of any others."""
    shift = seed + round(100 * temperature)

    def rewrite(request: ChatRequest) -> ChatRequest:
        return replace(request, temperature=temperature, seed=request.seed + shift)

    return rewrite


def _neighbours(case: Case, samples: tuple[Sample, ...], embeds: bool) -> Ablation:
    neighbours = TrainNeighbours(case.task.train, samples, embeds)
    near = tuple(sample for sample in samples if neighbours.has(sample))
    return Ablation(NEIGHBOURS, neighbours.solve, near, "" if near else "no train sample resembles a failure")


def _given(
    case: Case, name: str, kind: GivenKind, gold: Mapping[str, tuple[str, ...]], samples: Sequence[Sample]
) -> Ablation:
    """Right intermediate results in place of the candidate's own; a candidate without any reads them with the input."""
    having = tuple(sample for sample in samples if gold[sample.id])
    fitted = case.fitted

    async def handed_over(sample: Sample, models: Meter) -> str:
        assert isinstance(fitted, Ablatable)
        return await fitted.solve_given(sample, models, Given(**{kind: gold[sample.id]}))

    async def read_out(sample: Sample, models: Meter) -> str:
        before = _text(case, kind, sample, gold[sample.id])
        return await fitted.solve(replace(sample, input=f"{before}\n\n{sample.input}"), models)

    solve = handed_over if accepts(fitted, kind) else read_out
    return Ablation(name, solve, having, "" if having else _NOTHING_GOLD[name])


def _text(case: Case, kind: GivenKind, sample: Sample, gold: tuple[str, ...]) -> str:
    if kind == "documents":
        return documents_text(case.documents(sample))
    return results_text(gold) if kind == "tool_results" else steps_text(gold)
