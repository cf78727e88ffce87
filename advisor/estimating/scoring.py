"""What scoring asks of models, where the scorer asks any: a judge twice a trial, an embedder once."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.estimating.counting import Counter
from advisor.estimating.demand import Demand, Demands, times
from advisor.scenario.model import Scenario
from advisor.span import Span
from evals.scorers.base import AnyScorer, ModelScorer
from evals.scorers.citation import JudgedCitation
from evals.scorers.judge import Judge
from evals.task import Sample

_REASON, _FORM = Span(15, 45, 160), Span(8, 12, 24)
"""Tokens of a judge's reason and of the form around it, assumed."""
_UNLIKE = Span(0.3, 0.8, 1.0)
"""Share of the answers that no other candidate has given too: equal ones are judged once."""
_DRAWN = 40
_CALIBRATED = 200
"""Most answers of people that a judge is held against."""


def per_trial(scenario: Scenario, counter: Counter) -> Demands | None:
    """What scoring one trial asks; None when the scorer asks a model in a way that is not known here."""
    scorer = _asking(scenario)
    if not isinstance(scorer, ModelScorer):
        return {}
    samples = [*scenario.task.dev, *scenario.task.train][:_DRAWN]
    if isinstance(scorer, Judge) and samples:
        return times(_judged(scorer, samples, counter), _UNLIKE)
    if scorer.asks is None and samples:
        return _embedded(samples, counter)
    return None


def calibration(scenario: Scenario, counter: Counter) -> Demands:
    """What it takes to hold a judge against people, once a run."""
    judge = _asking(scenario)
    if not isinstance(judge, Judge):
        return {}
    task = scenario.task
    scored = [sample for sample in (*task.dev, *task.train) if judge.labelled(sample) is not None][:_CALIBRATED]
    return times(_judged(judge, scored, counter), len(scored)) if scored else {}


def _asking(scenario: Scenario) -> AnyScorer:
    """The scorer, or the one that it asks where it has looked at citations itself."""
    scorer = scenario.scorer
    return scorer.answer if isinstance(scorer, JudgedCitation) else scorer


def _judged(judge: Judge, samples: Sequence[Sample], counter: Counter) -> Demands:
    """One answer, about as long as the targets, judged in both orders."""
    gauge = counter.gauges[judge.model]
    requests = [judge.request(sample.target, sample, swapped) for sample in samples for swapped in (False, True)]
    prompt = sum(map(gauge.prompt_tokens, requests)) / len(samples)
    unseen = gauge.unseen
    wrote = (_REASON + _FORM + Span(unseen.low, unseen.expected, unseen.high)) * 2
    # Free answers may be shorter or longer than the targets they are held against.
    return {judge.model: Demand(Span.exactly(2), Span(0.95, 1.0, 1.3) * prompt, output_tokens=wrote)}


def _embedded(samples: Sequence[Sample], counter: Counter) -> Demands:
    """The answer; right ones are embedded once, whoever gives them."""
    gauge = counter.gauges[counter.gauges.embedder]
    mean = sum(gauge.text_tokens(sample.target) for sample in samples) / len(samples)
    return {counter.gauges.embedder: Demand(Span(0, 1, 2), Span(0, 1.2, 4) * mean)}
