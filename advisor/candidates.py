"""Which candidates a scenario has: techniques times models, and why the others were left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.scenario.model import Scenario, Teacher
from advisor.techniques import registry
from advisor.techniques.base import Technique
from backends import registry as backends
from backends.errors import InputError, Problem
from backends.types import TuneJob


@dataclass(frozen=True, slots=True)
class Candidate:
    """A technique on a model: one row of the comparison."""

    id: str
    technique: Technique
    model: str
    """Name of the model it starts from; a tuned candidate answers with another."""
    others: tuple[str, ...] = ()
    """Further models it asks: steps of a chain, the dearer half of a cascade, a teacher."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A technique that is tried, and why."""

    technique: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A technique that `auto` or the scenario did not choose."""

    technique: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lineup:
    """The candidates of a scenario."""

    prompting: tuple[Candidate, ...]
    """Those that need no training, in the order the scenario names them."""
    tuning: tuple[Candidate, ...]
    """Those that train a model; they wait until the ladder escalates."""
    chosen: tuple[Chosen, ...]
    """One entry a technique, in the order of the candidates."""
    left_out: tuple[LeftOut, ...]


NOT_NAMED = "not among the scenario's techniques"
NOT_ASKED_FOR = "not asked for in this run: --techniques names others"
NOT_NEEDED_TO_TUNE = "not needed: `tune` compares the model before its training with the one after"
_ALSO: Mapping[str, tuple[dict[str, Any], ...]] = {"function_calling": ({"k": 4},)}
"""Settings that `auto` tries beside the default ones, as candidates of their own: tools with worked calls."""


def lineup(scenario: Scenario) -> Lineup:
    """Build the candidates of a scenario; techniques that make no sense for its task are left out, with the reason.

    Raises InputError when no candidate is left, or when a model cannot be tuned as the scenario asks.
    """
    prompting: dict[str, Candidate] = {}
    tuning: dict[str, Candidate] = {}
    chosen: dict[str, Chosen] = {}
    left_out: list[LeftOut] = []
    specs = _specs(scenario)
    for name, parameters in specs:
        technique = registry.make(name, parameters)
        reason = _against(technique, scenario)
        if reason:
            if not any(one.technique == name for one in left_out):
                left_out.append(LeftOut(name, reason))
            continue
        chosen.setdefault(name, Chosen(name, technique.suits(scenario.task)))
        candidates = [_candidate(technique, model, scenario) for model in _models(technique, scenario)]
        (tuning if technique.tunes else prompting).update({one.id: one for one in candidates})
    named = {name for name, _ in specs}
    left_out += [LeftOut(name, NOT_NAMED) for name in registry.names() if name not in named]
    found = Lineup(tuple(prompting.values()), tuple(tuning.values()), tuple(chosen.values()), tuple(left_out))
    problems = _problems(scenario, found)
    if problems:
        raise InputError(problems)
    return found


def _against(technique: Technique, scenario: Scenario) -> str | None:
    """Why a technique is not tried: it cannot be, or `auto` does not think it worth it."""
    if technique.tunes and scenario.fine_tune.when == "never":
        return "fine_tune.when is never"
    if technique.tunes and not _asks_for_training(scenario) and _tunable(scenario) is None:
        return f"fine_tune.backend is {scenario.fine_tune.backend}, which can train none of the models; name a base"
    asked_for = scenario.techniques is not None or technique.tunes or technique.name in _named_by_teacher(scenario)
    return technique.unfit(scenario.task) or (None if asked_for else technique.skip(scenario.task))


def _models(technique: Technique, scenario: Scenario) -> tuple[str, ...]:
    """The models a technique starts from: all, but for one that names its own and one that ends with the last."""
    if technique.tunes:
        return scenario.models[:1]
    dear = getattr(technique, "dear", None)
    return tuple(model for model in scenario.models if model != dear) or scenario.models


def _problems(scenario: Scenario, found: Lineup) -> list[Problem]:
    """What would only be found after the prompting candidates were paid for."""
    where = f"{scenario.file.name}: fine_tune"
    problems = []
    if not found.prompting and not found.tuning:
        reasons = "; ".join(f"{one.technique}: {one.reason}" for one in found.left_out)
        problems.append(Problem(f"{scenario.file.name}: techniques", "no candidate is left.", f"Left out: {reasons}."))
    problems += _model_problems(scenario, found)
    backend = scenario.fine_tune.backend
    for candidate in found.tuning:
        problem = backends.tuning_problem(backend, candidate.model, getattr(candidate.technique, "recipe", {}))
        if problem is not None:
            problems.append(Problem(where, f"{problem.where}: {problem.what}", problem.remedy))
        else:
            problems += _upload_problems(scenario, candidate)
    if found.tuning and scenario.fine_tune.teacher is not None and not teachers(scenario, found):
        problems.append(_no_teacher(scenario, scenario.fine_tune.teacher, found))
    return problems


def _upload_problems(scenario: Scenario, candidate: Candidate) -> tuple[Problem, ...]:
    """What forbids sending the train and dev samples away; what a teacher adds is looked at when it is there."""
    make: Callable[..., TuneJob] | None = getattr(candidate.technique, "job", None)
    if make is None or getattr(candidate.technique, "taught", False):
        return ()
    return backends.upload_problems(
        scenario.fine_tune.backend, lambda: make(scenario.task, scenario.seed, Path("adapters"))
    )


def teachers(scenario: Scenario, found: Lineup) -> tuple[Candidate, ...]:
    """The candidates that may teach: those without training that are what the scenario says of its teacher."""
    teacher = scenario.fine_tune.teacher
    if teacher is None:
        return ()
    wanted = teacher.candidate
    return tuple(
        one
        for one in found.prompting
        if teacher.model in (None, one.model)
        and (wanted is None or one.technique.name == wanted.name)
        and (wanted is None or all(getattr(one.technique, key) == value for key, value in wanted.params.items()))
    )


def _no_teacher(scenario: Scenario, teacher: Teacher, found: Lineup) -> Problem:
    name = "any" if teacher.candidate is None else teacher.candidate.name
    model = "" if teacher.model is None else f" on {teacher.model}"
    reason = next((f" ({one.reason})" for one in found.left_out if one.technique == name), "")
    able = ", ".join(one.id for one in found.prompting) or "none"
    what = f"no candidate without training is {name}{model}{reason}, so nobody can teach."
    return Problem(f"{scenario.file.name}: fine_tune.teacher", what, f"Candidates are: {able}.")


def _named_by_teacher(scenario: Scenario) -> list[str]:
    teacher = scenario.fine_tune.teacher
    return [] if teacher is None or scenario.fine_tune.when == "never" else [spec.name for spec in teacher.specs]


def _model_problems(scenario: Scenario, found: Lineup) -> list[Problem]:
    """Models named within techniques and steps that cannot be used: a teacher, a dearer model, a cross-encoder."""
    named: dict[str, str] = {}
    for candidate in (*found.prompting, *found.tuning):
        rerank = getattr(candidate.technique, "rerank", None)
        for name in (*candidate.others, *([rerank] if rerank else [])):
            named.setdefault(name, candidate.technique.name)
    place = f"{scenario.file.name}: techniques"
    found_problems = ((technique, backends.problem(name)) for name, technique in named.items())
    return [
        Problem(place, f"{technique}: {problem.what}", problem.remedy)
        for technique, problem in found_problems
        if problem is not None
    ]


def _specs(scenario: Scenario) -> list[tuple[str, dict[str, Any]]]:
    """The techniques to try. Fine-tuning is always on the list: `fine_tune.when` decides about it, not `techniques`."""
    if scenario.techniques is None:
        specs: list[tuple[str, dict[str, Any]]] = [
            (name, parameters) for name in registry.names() for parameters in ({}, *_ALSO.get(name, ()))
        ]
    else:
        specs = [(spec.name, dict(spec.params)) for spec in scenario.techniques]
    if not any(name == "fine_tune" for name, _ in specs):
        specs.append(("fine_tune", {}))
    teacher = scenario.fine_tune.teacher
    if teacher is not None and scenario.fine_tune.when != "never":
        specs += [one for spec in teacher.specs if (one := (spec.name, dict(spec.params))) not in specs]
    return [(name, _completed(name, parameters, scenario)) for name, parameters in specs]


def _completed(name: str, parameters: Mapping[str, Any], scenario: Scenario) -> dict[str, Any]:
    """Parameters that follow from the rest of the scenario, where they are not given."""
    if name == "fine_tune":
        return _tuned(parameters, scenario)
    if name == "cascade" and len(scenario.models) > 1:
        # Models are listed from cheap to dear; the last answers what the others are not sure of.
        return {"dear": scenario.models[-1], **parameters}
    return dict(parameters)


def _tuned(parameters: Mapping[str, Any], scenario: Scenario) -> dict[str, Any]:
    own = parameters.get("recipe", {})
    recipe = {**scenario.fine_tune.recipe, **own} if isinstance(own, Mapping) else own
    base = scenario.fine_tune.base or _tunable(scenario) or scenario.models[0]
    taught = {} if scenario.fine_tune.teacher is None else {"taught": True}
    return {"base": base, **taught, **parameters, "recipe": recipe}


def _tunable(scenario: Scenario) -> str | None:
    """The model that is tuned when the scenario names none: the first of its own that this backend can train."""
    backend = scenario.fine_tune.backend
    return next((model for model in scenario.models if backends.owner(model) == backend), None)


def _asks_for_training(scenario: Scenario) -> bool:
    """Whether the scenario says anything of fine-tuning; what it asks for and cannot have is an error."""
    named = any(spec.name == "fine_tune" for spec in scenario.techniques or ())
    return named or any(key.startswith("fine_tune.") for key in scenario.stated)


def _candidate(technique: Technique, model: str, scenario: Scenario) -> Candidate:
    base = getattr(technique, "base", model)
    others = tuple(name for name in technique.others(scenario.task) if name != base)
    return Candidate(f"{technique.name}{_shown(technique)}@{base}", technique, base, others)


def _shown(technique: Technique) -> str:
    """Hyperparameters that are not the default, so that two settings of one technique have two ids."""
    fields: tuple[Any, ...] = dataclasses.fields(technique)  # type: ignore[arg-type]
    changed = [
        f"{field.name}={getattr(technique, field.name)}"
        for field in fields
        if field.name not in {"base", "recipe"} and getattr(technique, field.name) != field.default
    ]
    changed += [f"{key}={value}" for key, value in getattr(technique, "recipe", {}).items()]
    return f"({','.join(changed)})" if changed else ""
