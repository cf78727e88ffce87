"""What a scenario wants tried: models, techniques; and what the command line puts in their place."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.scenario.fields import Named
from advisor.scenario.findings import Findings
from advisor.scenario.model import Overrides, TechniqueSpec
from advisor.scenario.schema import FineTuneSection
from advisor.techniques import registry as techniques
from backends import registry as backends
from backends.errors import Problem


def check_overrides(overrides: Overrides, findings: Findings) -> None:
    """What is given on the command line."""
    for option, names in (("--models", overrides.models), ("--techniques", overrides.techniques)):
        if names == ():
            findings.problems.append(Problem(option, "no name is given.", "Give one or more, separated by commas."))
    if overrides.limit is not None and overrides.limit < 1:
        what = f"{overrides.limit} test samples prove nothing."
        findings.problems.append(Problem("--limit", what, "Give 1 or more."))
    if overrides.budget_usd is not None and not overrides.budget_usd >= 0:
        what = f"{overrides.budget_usd} dollars are no budget."
        findings.problems.append(Problem("--budget-usd", what, "Give 0 or more."))


def choose_models(said: Sequence[str], override: Sequence[str] | None, findings: Findings) -> tuple[str, ...]:
    """The models to compare, each of them usable."""
    models = tuple(said if override is None else override)
    for position, name in enumerate(models):
        place = findings.document.place(("models", position)) if override is None else "--models"
        if name in models[:position]:
            findings.problems.append(Problem(place, f"model {name!r} is listed twice.", "Remove one of the two."))
        else:
            check_model(name, place, findings)
    return models


_BASES = {"openai": "Name a model of openai/ or of another endpoint."}


def check_model(name: str, place: str, findings: Findings) -> None:
    """A model must be known, usable here and able to answer."""
    _note(backends.chat_problem(name), name, place, findings)


def check_embedder(name: str, place: str, findings: Findings) -> None:
    """An embedder must be known and usable here."""
    _note(backends.problem(name), name, place, findings)


def _note(problem: Problem | None, name: str, place: str, findings: Findings) -> None:
    if problem is not None:
        what = problem.what if name in problem.what else f"model {name!r}: {problem.what}"
        findings.problems.append(Problem(place, what, problem.remedy))


def check_base(tune: FineTuneSection, findings: Findings) -> None:
    """The model to tune must be one that the chosen backend has."""
    if tune.base is None:
        return
    place = findings.document.place(("fine_tune", "base"))
    if backends.owner(tune.base) in (tune.backend, None):
        check_model(tune.base, place, findings)
    else:
        what = f"fine_tune.base is {tune.base!r}, which the backend {tune.backend!r} cannot tune."
        findings.problems.append(Problem(place, what, _BASES.get(tune.backend, f"Name a model of {tune.backend}/.")))


def choose_techniques(
    said: Sequence[Named] | None, override: Sequence[str] | None, findings: Findings
) -> tuple[TechniqueSpec, ...] | None:
    """The techniques to try, None for whatever fits; one named on the command line keeps the scenario's options."""
    if said is None and override is None:
        return None
    chosen = [TechniqueSpec(technique.name, technique.options) for technique in said or ()]
    if override is not None:
        chosen = [technique for name in override for technique in _called(name, chosen)]
    for position, technique in enumerate(chosen):
        place = findings.document.place(("techniques", position)) if override is None else "--techniques"
        if technique in chosen[:position]:
            what = f"technique {technique.name!r} is listed twice with the same options."
            findings.problems.append(Problem(place, what, "Remove one of the two."))
        else:
            found = techniques.problems(technique.name, technique.params)
            findings.problems += [Problem(place, what, "") for what in found]
    return tuple(chosen)


def _called(name: str, said: Sequence[TechniqueSpec]) -> list[TechniqueSpec]:
    return [technique for technique in said if technique.name == name] or [TechniqueSpec(name)]
