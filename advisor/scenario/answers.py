"""What counts as a right answer in a scenario: its labels, its scorer, and whether the targets fit them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advisor.scenario.choices import check_model
from advisor.scenario.fields import Named
from advisor.scenario.findings import Findings
from advisor.scenario.samples import Samples
from backends.errors import InputError, Problem
from evals.data import Placed
from evals.scorers import AnyScorer, ModelScorer, ScorerError, is_custom, make_scorer, right_answer
from evals.scorers.base import shorten
from evals.scorers.json_fields import JsonFields, has_field
from evals.scorers.judge import JUDGE_WARNING
from evals.scorers.text import normalise
from evals.task import Sample

_TRIED = 3
"""Samples that a user's own scorer is tried on; ours are tried on all."""
_LONGEST_OPTION = 60
"""Characters of an option that a scorer's label shows."""


def check_labels(labels: Sequence[str], findings: Findings) -> None:
    """Two labels that count as the same answer could not be told apart."""
    seen: dict[str, str] = {}
    for position, label in enumerate(labels):
        before = seen.setdefault(normalise(label), label)
        if label in labels[:position]:
            findings.problem(("labels", position), f"label {label!r} is listed twice.", "Remove one of the two.")
        elif before != label:
            what = f"labels {before!r} and {label!r} differ only in case, spaces or quotes, which are not compared."
            findings.problem(("labels", position), what, "Rename one of the two.")


def load_scorer(said: Named, findings: Findings) -> AnyScorer | None:
    """The scorer; what is wrong with it or its judge is a problem at its line, or in the user's own file."""
    own = [name for name in _names({"name": said.name, **said.options}) if is_custom(name)]
    findings.warnings += [f"the scorer {name} is code of the scenario: it runs on this machine." for name in own]
    try:
        scorer = make_scorer({"name": said.name, **said.options}, findings.folder)
    except InputError as error:
        for problem in error.problems:
            head, *rest = problem.where.split(".")
            if head == "scorer":
                findings.problem(("scorer", *rest), problem.what, problem.remedy)
            else:
                findings.problems.append(problem)
        return None
    findings.files += [findings.folder / name.rpartition(":")[0] for name in own]
    if isinstance(scorer, ModelScorer) and scorer.asks is not None:
        inner = ("answer",) if isinstance(said.options.get("answer"), Mapping) else ()
        check_model(scorer.asks, findings.document.place(("scorer", *inner, "model")), findings)
        findings.warnings.append(JUDGE_WARNING)
    return scorer


def _names(spec: Any) -> Iterator[str]:
    """The name of a scorer, and of the one that its option `answer` names."""
    if isinstance(spec, Mapping):
        yield from (spec["name"],) if isinstance(spec.get("name"), str) else ()
        yield from _names(spec.get("answer"))
    elif isinstance(spec, str):
        yield spec


def scorer_label(said: Named) -> str:
    """The scorer in one line, options included; long ones are cut."""
    options = ", ".join(f"{key}={_brief(value)}" for key, value in said.options.items())
    return f"{said.name}({options})" if options else said.name


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST_OPTION and "\n" not in text else shorten(text, _LONGEST_OPTION)


def _check_fields(scorer: JsonFields, placed: Sequence[Placed], findings: Findings) -> None:
    """A field that no target has was misspelt: absent on both sides, it would count as right for every answer."""
    targets = [one.sample.target for one in placed]
    for position, field in enumerate(scorer.fields or ()):
        if targets and not any(has_field(target, field) for target in targets):
            what = f"json_fields: no target has the field {field!r}."
            findings.problem(("scorer", "fields", position), what, "Correct or remove it.")


def check_targets(scorer: AnyScorer, placed: Sequence[Placed], findings: Findings) -> None:
    """A right answer must score 1; with another scorer than the user meant, it often does not.

    Scorers that ask models are only asked whether they can use the samples: nothing may be spent here.
    """
    own = is_custom(scorer.name)
    if isinstance(scorer, JsonFields):
        _check_fields(scorer, placed, findings)
    try:
        wrong = list(_badly_scored(scorer, placed[-_TRIED:] if own else placed))
    except InputError as error:  # a package that the scorer needs is not installed
        for problem in error.problems:
            findings.problem(("scorer",), f"scorer {scorer.name}: {problem.what}", problem.remedy)
        return
    if not wrong:
        return
    place, fault = wrong[0]
    more = f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
    if own:
        findings.warnings.append(f"{place}: {fault}{more}.")
    else:
        remedy = "Correct the target or choose another scorer."
        findings.problems.append(Problem(place, f"{fault}{more}.", remedy))


def _badly_scored(scorer: AnyScorer, placed: Sequence[Placed]) -> Iterator[tuple[str, str]]:
    for one in placed:
        try:
            fault = _fault(scorer, one.sample)
        except ScorerError as error:
            fault = str(error)
        if fault is not None:
            yield one.place, fault


def _fault(scorer: AnyScorer, sample: Sample) -> str | None:
    """What is wrong with how a right answer scores, or None. Raises ScorerError for an unusable sample."""
    answer = right_answer(scorer, sample)
    if answer is None or isinstance(scorer, ModelScorer):
        return None
    score = scorer(answer, sample)
    if score.value >= 1:
        return None
    reason = f" ({score.reason})" if score.reason else ""
    return f"the right answer itself scores {score.value:g} with {scorer.name}{reason}"


def check_classes(labels: Sequence[str], samples: Samples, findings: Findings) -> None:
    """Labels with next to no samples are worth a word."""
    if not labels or not samples.complete:
        return
    trained = Counter(placed.sample.target for placed in samples.splits["train"])
    tested = Counter(placed.sample.target for placed in samples.splits["test"])
    if rare := [label for label in labels if trained[label] < 2]:
        findings.warnings.append(f"{_some(rare)} with fewer than 2 train samples: nothing to learn them from.")
    if unseen := [label for label in labels if not tested[label]]:
        findings.warnings.append(f"{_some(unseen)} without test samples: no figure will say how they are answered.")


def _some(labels: Sequence[str]) -> str:
    names = ", ".join(map(repr, labels[:5]))
    return f"{len(labels)} label{'s' if len(labels) > 1 else ''} ({names}{', ...' if len(labels) > 5 else ''})"
