"""Everything that would explain one failure, from what the ablations gave; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from advisor.diagnosis.ablations import DOCUMENTS, NEIGHBOURS, STEPS, TEMPERATURES, TOOLS
from advisor.diagnosis.case import Case
from advisor.diagnosis.causes import CauseName
from advisor.diagnosis.failures import Failure
from advisor.diagnosis.gold import gold_outputs
from advisor.diagnosis.lenient import Reading, lenient
from advisor.techniques.chain_errors import first_wrong_step
from evals.scorers.base import ModelScorer, ScorerError
from evals.scorers.text import normalise
from evals.trial import Trial

Asked = Mapping[str, Trial]
"""Trials of one failure by the name of their ablation."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One cause that would explain a failure."""

    cause: CauseName
    how: str
    """What exactly was seen; failures with the same words are counted together."""
    gave: str
    """The answer that the ablation gave."""


def explanations(case: Case, failure: Failure, asked: Asked, reading: Reading | None) -> tuple[Explanation, ...]:
    """All causes that would explain a failure.

    What is concluded because nothing helped (knowledge, calculation, skill) is added only where nothing did. An
    ablation that failed, or was not made, explains nothing.
    """
    if failure.trial.error is not None:
        return (Explanation("errors", "", failure.trial.error),)
    found = [*_labels(case, failure, asked), *_format(reading), *_documents(case, failure, asked)]
    if case.right(asked.get(TOOLS)):
        found.append(Explanation("tool_use", "", _output(asked[TOOLS])))
    if case.right(asked.get(STEPS)):
        found.append(Explanation("chain", _where_it_began(case, failure), _output(asked[STEPS])))
    found += _noise(case, asked)
    return tuple(found) or tuple(_eliminated(case, failure, asked))


def _labels(case: Case, failure: Failure, asked: Asked) -> Iterator[Explanation]:
    """The near-identical train samples' target is wrong here, and would make the candidate's answer right."""
    trial = asked.get(NEIGHBOURS)
    if trial is None or not case.wrong(trial):
        return
    target = _output(trial)
    if _says(case, failure, failure.trial.output or "", target):
        yield Explanation("label_noise", "", f"near-identical train samples carry {target!r}")


def _says(case: Case, failure: Failure, text: str, target: str) -> bool | None:
    """Whether a text would be right if `target` were; None when the scorer can do nothing with such a target."""
    if isinstance(case.scorer, ModelScorer):
        return normalise(text) == normalise(target)
    sample = replace(failure.sample, target=target)
    try:
        if case.scorer(text, sample).value >= case.threshold:
            return True
    except ScorerError:
        return None
    return lenient(text, sample, case.scorer, case.answers, case.threshold) is not None


def _where_it_began(case: Case, failure: Failure) -> str:
    """The first step of the candidate's own chain that went wrong, where that can be told."""
    if isinstance(case.scorer, ModelScorer):
        return ""

    def same(output: str, right: str) -> bool:
        return _says(case, failure, output, right) is not False

    step = first_wrong_step(failure.trial.steps, gold_outputs(failure.sample), same)
    return f"began at the step {step!r}" if step else ""


def _format(reading: Reading | None) -> Iterator[Explanation]:
    if reading is not None:
        yield Explanation("format", reading.how, reading.text)


def _documents(case: Case, failure: Failure, asked: Asked) -> Iterator[Explanation]:
    trial = asked.get(DOCUMENTS)
    if trial is None or trial.score is None:
        return
    if case.wrong(trial):
        # A fact that no document states was not misread: it is not there.
        if case.stating.get(failure.sample.id, ("derived",)):
            yield Explanation("reading", "stayed wrong with the gold documents alone", _output(trial))
    elif not case.retrieves:
        yield Explanation("knowledge", "became right with the gold documents before the input", _output(trial))
    elif case.missed(failure):
        yield Explanation("retrieval", "", _output(trial))
    else:
        yield Explanation("reading", "had all gold documents among others", _output(trial))


def _noise(case: Case, asked: Asked) -> Iterator[Explanation]:
    if all(case.right(asked.get(name)) for name in TEMPERATURES):
        gave = "; ".join(f"{name}: {_output(asked[name])}" for name in TEMPERATURES)
        yield Explanation("noise", "", gave)


def _eliminated(case: Case, failure: Failure, asked: Asked) -> Iterator[Explanation]:
    """What is left when nothing helped; claimed only where something was tried and gave an answer."""
    tried = [trial for trial in asked.values() if case.wrong(trial)]
    if not tried:
        return
    gave = _output(tried[-1])
    kind = case.kinds[failure.sample.id]
    if kind == "learnable":
        yield Explanation("skill", "", gave)
    elif kind == "number":
        yield Explanation("calculation", "", gave)
    elif kind == "fact":
        yield from _unknown_fact(case, failure, gave)


def _unknown_fact(case: Case, failure: Failure, gave: str) -> Iterator[Explanation]:
    if not case.task.documents:
        yield Explanation("knowledge", "the task has no documents", gave)
    elif not case.stating[failure.sample.id]:
        yield Explanation("knowledge", "no document states the answer", gave)
    elif not case.retrieves:
        yield Explanation("knowledge", "documents state the answer and the candidate does not read them", gave)


def _output(trial: Trial) -> str:
    return trial.output or ""
