"""The tuned model of a former run that a training goes on from: found, and refused where nothing could be learnt of it.

A former model that was taught a present test sample would be compared on what it has seen, and would hand that on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from advisor.candidates import Candidate, lineup
from advisor.commands import as_argument, command
from advisor.scenario.model import Overrides, Scenario
from advisor.techniques.base import read_state
from advisor.techniques.fine_tune import FittedFineTune
from advisor.workspace import Workspace
from backends import registry as backends
from backends.errors import InputError, Problem
from evals.cache import store_path
from evals.leakage import question_key
from evals.naming import Last
from evals.store import Store

Start = Literal["adapter", "base"]


@dataclass(frozen=True, slots=True)
class Former:
    """A tuned model of a former run, and how a training of today uses it."""

    run_id: str
    folder: Path
    """Of the fitted technique; the model lies elsewhere."""
    fitted: FittedFineTune
    start: Start
    """What the training starts with."""
    why_afresh: str = ""
    """Why it starts from the base although nobody asked for that; empty otherwise."""


def check_options(continues: str | None, start: str | None) -> None:
    """Raise InputError for a start that is none, or that has no run to start from."""
    if start is not None and start not in ("adapter", "base"):
        raise _refused("--from", f"is {start!r}; a training starts from `adapter` or `base`.", "Name one of them.")
    if start is not None and continues is None:
        raise _refused("--from", "says what to start with, but not which run.", "Name one with --continue RUN.")


def check_workspace(workspace: Workspace, continues: str | None) -> None:
    """Raise InputError when there is no workspace in which the run could be."""
    if continues is not None and not store_path(workspace.root).is_file():
        what = f"there is no workspace here, so no run {continues!r}."
        raise _refused(str(workspace.root), what, "Name the one that has it with --workspace.")


def name_former(store: Store, workspace: Workspace, scenario: Scenario, name: str) -> str:
    """The id of the run to go on from; `last` is the scenario's newest with a tuned model. Raises InputError."""
    last = Last(
        "run with a tuned model",
        scenario=scenario.name,
        fits=lambda run: bool(_tuned_models(workspace, run.id)),
        remedy=_afresh(scenario, workspace),
    )
    return store.run(name, last).id


def _afresh(scenario: Scenario, workspace: Workspace) -> str:
    return f"Tune afresh: {command('tune', as_argument(scenario.file), workspace=workspace.root)}"


def find_formers(scenario: Scenario, workspace: Workspace, overrides: Overrides) -> dict[str, Former]:
    """For each candidate to be tuned, the tuned model that it goes on from; empty when nothing is gone on from.

    Args:
        scenario: As it is now, with its new data.
        workspace: Where the former run lies.
        overrides: With the id of that run in full, and what to start with: None takes the adapter where it fits.

    Raises:
        InputError: The run has no tuned model, or one that this scenario cannot go on from.
    """
    run_id = overrides.continues
    if run_id is None:
        return {}
    candidates = lineup(scenario).tuning
    if not candidates:
        raise _refused(str(scenario.file), "has no candidate that is tuned.", "Set fine_tune.when to needed.")
    known = _tuned_models(workspace, run_id)
    if not known:
        remedy = "Name a run of `advisor tune`, or one that escalated; `advisor runs` lists them."
        raise _refused(run_id, "the run has no tuned model.", remedy)
    chosen = {one.id: _chosen(workspace, one, run_id, known) for one in candidates}
    for folder in dict.fromkeys(chosen.values()):
        _check_there(known[folder], run_id, _afresh(scenario, workspace))
        _check_unseen(scenario, known[folder], run_id, _afresh(scenario, workspace))
    return {
        one.id: _former(scenario, one, Former(run_id, chosen[one.id], known[chosen[one.id]], "base"), overrides.start)
        for one in candidates
    }


def _tuned_models(workspace: Workspace, run_id: str) -> dict[Path, FittedFineTune]:
    """By folder: the fitted techniques of a run that trained a model, those whose files are damaged left out."""
    found: dict[Path, FittedFineTune] = {}
    for folder in sorted((workspace.run_folder(run_id) / "fitted").glob("*")):
        try:
            if read_state(folder)["technique"] == FittedFineTune.technique:
                found[folder] = FittedFineTune.load(folder)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _chosen(workspace: Workspace, candidate: Candidate, run_id: str, known: Mapping[Path, FittedFineTune]) -> Path:
    """The folder of the run's candidate of that id, else of its only tuned one."""
    folder = workspace.fitted_folder(run_id, candidate.id)
    if folder not in known:
        if len(known) > 1:
            names = ", ".join(one.model.name for one in known.values())
            what = f"the run has {len(known)} tuned models ({names}), and none of them is {candidate.id}."
            raise _refused(run_id, what, "Give fine_tune the recipe of the one to go on from.")
        (folder,) = known
    return folder


def _check_there(fitted: FittedFineTune, run_id: str, remedy: str) -> None:
    """Refuse a model whose weights are gone."""
    if not fitted.model.folder.is_dir():
        raise _refused(run_id, f"the tuned model {fitted.model.name} is gone ({fitted.model.folder}).", remedy)


def _former(scenario: Scenario, candidate: Candidate, found: Former, start: str | None) -> Former:
    """With what the training starts; raises InputError for an adapter that was asked for and does not fit."""
    if start == "base":
        return found
    recipe, folder = getattr(candidate.technique, "recipe", {}), found.fitted.model.folder
    problem = backends.start_problem(scenario.fine_tune.backend, candidate.model, recipe, folder)
    if problem is None:
        return replace(found, start="adapter")
    if start == "adapter":
        raise InputError(problem)
    return replace(found, why_afresh=f"{problem.where}: {problem.what}")


def _check_unseen(scenario: Scenario, fitted: FittedFineTune, run_id: str, remedy: str) -> None:
    """Refuse a model that saw a test sample of today, or of which nobody knows what it saw."""
    if not fitted.seen:
        what = f"nobody kept what {fitted.model.name} was taught, so it may have seen today's test samples."
        raise _refused(run_id, what, f"Later runs can go on from one of today. {remedy}")
    test = [question_key(sample) for sample in scenario.task.test]
    counts = {split: len(set(test) & set(keys)) for split, keys in fitted.seen.items()}
    told = " and ".join(f"{count} in its {split} split" for split, count in counts.items() if count)
    if told:
        what = f"of today's {len(test)} test samples the run had {told}: neither model's score on them would mean much."
        remedy = "Put new samples into train and leave test as it was; a file for each split keeps them apart."
        raise _refused(run_id, what, remedy)


def _refused(where: str, what: str, remedy: str) -> InputError:
    return InputError(Problem(where, what, remedy))
