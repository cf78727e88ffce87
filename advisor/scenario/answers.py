"""What counts as a right answer in a scenario: its labels, its scorer, and whether the targets fit them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from advisor.scenario.findings import Findings
from advisor.scenario.samples import Samples
from advisor.scenario.schema import Named
from backends.errors import InputError, Problem
from evals.data import Placed
from evals.scorers import Scorer, ScorerError, is_custom, make_scorer
from evals.scorers.text import normalise

_TRIED = 3
"""Samples that a user's own scorer is tried on; ours are tried on all."""


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


def load_scorer(said: Named, findings: Findings) -> Scorer | None:
    """The scorer; what is wrong with it is a problem at its line, or in the user's own file."""
    own = is_custom(said.name)
    if own:
        findings.warnings.append(f"the scorer {said.name} is code of the scenario: it runs on this machine.")
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
    if own:
        findings.files.append(findings.folder / said.name.rpartition(":")[0])
    return scorer


def scorer_label(said: Named) -> str:
    """The scorer in one line, options included."""
    options = ", ".join(f"{key}={value}" for key, value in said.options.items())
    return f"{said.name}({options})" if options else said.name


def check_targets(scorer: Scorer, placed: Sequence[Placed], findings: Findings) -> None:
    """A right answer must score 1; with another scorer than the user meant, it often does not."""
    own = is_custom(scorer.name)
    wrong = list(_badly_scored(scorer, placed[-_TRIED:] if own else placed))
    if not wrong:
        return
    place, fault = wrong[0]
    more = f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
    if own:
        findings.warnings.append(f"{place}: {fault}{more}.")
    else:
        remedy = "Correct the target or choose another scorer."
        findings.problems.append(Problem(place, f"{fault}{more}.", remedy))


def _badly_scored(scorer: Scorer, placed: Sequence[Placed]) -> Iterator[tuple[str, str]]:
    for one in placed:
        try:
            score = scorer(one.sample.target, one.sample)
        except ScorerError as error:
            yield one.place, str(error)
            continue
        if score.value < 1:
            reason = f" ({score.reason})" if score.reason else ""
            yield one.place, f"the right answer itself scores {score.value:g} with {scorer.name}{reason}"


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
