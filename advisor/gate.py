"""`advisor gate`: a candidate of a former run on the same test samples again, and whether it got worse.

The models are asked afresh: the requests of a gate have a number of their own, so that no remembered answer stands in
for a model that changed behind its name. Vectors of an embedder and verdicts of a judge may come from the workspace.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from advisor.billing import billed_among
from advisor.candidates import Candidate, lineup
from advisor.commands import as_argument, command
from advisor.events import Observer, Planned
from advisor.fitting import FitCost, fit
from advisor.regression import Rule, check_rule, decide, explain
from advisor.scenario.document import read_document
from advisor.scenario.load import find_scenario, load_scenario
from advisor.scenario.model import Overrides, Scenario
from advisor.session import Prepared, Session
from advisor.techniques.registry import load_fitted
from advisor.workspace import Workspace, new_run_id
from backends.errors import InputError, Problem
from backends.types import Usage
from backends.wording import counted
from evals.cache import store_path
from evals.naming import LAST, Last
from evals.store import RunKind, RunRow, RunStatus, Store
from evals.trial import ASIDE, Trial

EXIT_PASSED, EXIT_WORSE = 0, 1
_KIND: RunKind = "gate"
_APART = 1000
"""Repetitions of `compare` are numbered from 0; those of gates begin here, one number a run of the workspace."""
_SAME = ("data", "columns", "scorer")
"""Parts of a scenario that may not change between the run and the gate: what is asked, and how it is scored."""


@dataclass(frozen=True)
class Baseline:
    """A candidate of a former run, and the scenario as it is now."""

    run: RunRow
    scenario: Scenario
    overrides: Overrides
    candidate: Candidate
    scores: Mapping[str, float]
    """Mean score of each test sample over the run's repetitions; NaN where all failed."""

    @property
    def errors(self) -> int:
        """Samples that got no answer."""
        return sum(math.isnan(score) for score in self.scores.values())

    @property
    def billed(self) -> list[str]:
        """The models that the gate would ask and that cost money."""
        return billed_among(self.scenario, [self.candidate])


def baseline(
    path: str | Path,
    against: str,
    workspace: str | Path = ".advisor",
    *,
    candidate: str | None = None,
    budget_usd: float | None = None,
) -> Baseline:
    """Find what a gate compares with; nothing is asked.

    Args:
        path: the scenario as it is now.
        against: id of a former run, an unambiguous beginning of one, or `last`.
        workspace: where the run is kept.
        candidate: id of one of the run's candidates; by default its pick.
        budget_usd: dollars at most, in place of the scenario's.

    Raises:
        InputError: there is no such run or candidate, or the scenario asks or scores otherwise than the run did.
    """
    place = Workspace(Path(workspace))
    if not store_path(place.root).is_file():
        raise _refused(
            str(workspace), "there is no workspace here.", "Name it with --workspace, or run `advisor compare`."
        )
    afresh = command("compare", as_argument(find_scenario(Path(path))), workspace=place.root)
    with Store.open(store_path(place.root)) as store:
        run = _former(store, against, load_scenario(path).name if against == LAST else "", afresh)
        overrides = _overrides(run, budget_usd)
        scenario = load_scenario(path, overrides)
        _same_question(scenario, place.run_folder(run.id) / "scenario", run.id, afresh)
        chosen = _candidate(scenario, run, candidate)
        trials = store.trials(run.id, chosen.id, "test")
    scores = _mean_scores(trials)
    if not scores:
        raise _refused(run.id, f"the run did not test {chosen.id}.", "Name another with --candidate.")
    return Baseline(run, scenario, overrides, chosen, scores)


def _refused(where: str, what: str, remedy: str) -> InputError:
    return InputError(Problem(where, what, remedy))


def _former(store: Store, against: str, name: str, afresh: str) -> RunRow:
    """The run to compare with; `last` is the newest finished `run` or `compare` of the scenario of that name."""
    return store.run(against, Last("finished run", ("run", "compare"), ("done",), name, remedy=f"Make one: {afresh}"))


def _overrides(run: RunRow, budget_usd: float | None) -> Overrides:
    """The options of the run: the same models, techniques, samples and seed, asked one by one at once."""
    known = {one.name for one in fields(Overrides)}
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in run.options.items()
    }
    found = Overrides(**{name: value for name, value in kept.items() if name in known})
    return replace(found, repeats=1, race=False, batch=False, budget_usd=budget_usd)


def _same_question(scenario: Scenario, frozen: Path, run_id: str, afresh: str) -> None:
    """What is asked and how it is scored must be as in the run; instructions, models and documents may change."""
    remedy = f"Make a new run to compare with: {afresh}"
    try:
        hashes = json.loads((frozen / "hashes.json").read_text(encoding="utf-8"))
        said = read_document(frozen / scenario.file.name).content
    except (OSError, ValueError) as error:
        raise _refused(str(frozen), f"the run's copy of its scenario is gone: {error}.", remedy) from None
    now = read_document(scenario.file).content
    changed = [key for key in _SAME if said.get(key) != now.get(key)]
    held = {Path(text).name for text in _texts([now.get("data"), now.get("scorer")])}
    changed += [name for name, digest in _digests(scenario).items() if name in held and hashes.get(name) != digest]
    if changed:
        what = f"{' and '.join(changed)} changed since run {run_id}: its scores cannot be compared with new ones."
        raise _refused(str(scenario.file), what, remedy)


def _texts(value: Any) -> list[str]:
    """Every text in a part of the scenario; of `file.py:function` the file."""
    if isinstance(value, str):
        return [value, value.rpartition(":")[0]]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


def _digests(scenario: Scenario) -> dict[str, str]:
    """The hash of every file of a scenario, named as `Workspace.freeze` names them."""
    found: dict[str, str] = {}
    for number, path in enumerate(scenario.files):
        name = path.name if path.name not in found else f"{number}-{path.name}"
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _candidate(scenario: Scenario, run: RunRow, wanted: str | None) -> Candidate:
    """The candidate of that id, or the run's pick."""
    name = run.pick if wanted is None else wanted
    found = lineup(scenario)
    candidates = (*found.prompting, *found.tuning)
    known = ", ".join(one.id for one in candidates)
    if name is None:
        raise _refused(run.id, "the run picked no candidate.", f"Name one: --candidate ID. There are {known}.")
    chosen = next((one for one in candidates if one.id == name), None)
    if chosen is None:
        raise _refused("--candidate", f"the scenario has no candidate {name!r}.", f"There are {known}.")
    return chosen


def _mean_scores(trials: Sequence[Trial]) -> dict[str, float]:
    """Each sample's mean over all trials that count: the one of the climb, repetitions, the fresh look."""
    by_sample: dict[str, list[float]] = {}
    for trial in trials:
        if not trial.variant.startswith(ASIDE):
            found = by_sample.setdefault(trial.sample_id, [])
            found.extend([] if trial.score is None else [trial.score.value])
    return {sample: sum(found) / len(found) if found else math.nan for sample, found in by_sample.items()}


@dataclass(frozen=True)
class Gated:
    """A gate that was run."""

    passed: bool
    sentence: str
    report: Mapping[str, Any]
    folder: Path

    @property
    def exit_code(self) -> int:
        """0 when it opened, 1 when the candidate is worse."""
        return EXIT_PASSED if self.passed else EXIT_WORSE


def gate(
    found: Baseline, workspace: str | Path = ".advisor", rule: Rule | None = None, observe: Observer | None = None
) -> Gated:
    """Ask the candidate afresh and decide. Raises AdvisorError; what was paid for stays stored."""
    rule = rule or Rule()
    check_rule(rule)
    place = Workspace(Path(workspace))
    with place.locked(), Store.open(store_path(place.root)) as store:
        row = _begin(found, store, place)
        session = Session(found.scenario, store, place, row.id, observe or (lambda event: None))
        status: RunStatus = "interrupted"
        passed: bool | None = None
        try:
            trials = asyncio.run(_asked(session, found, int(row.options["fresh"])))
            gated = _judged(session, found, trials, rule)
            status, passed = "done", gated.passed
            return gated
        except Exception:
            status = "failed"
            raise
        finally:
            store.spend_seconds(row.id, session.total_seconds)
            verdict = None if passed is None else "not worse" if passed else "worse"
            store.finish_run(row.id, status, verdict, found.candidate.id)


def _begin(found: Baseline, store: Store, place: Workspace) -> RunRow:
    options = asdict(found.overrides) | {
        "seed": found.scenario.seed,
        "against": found.run.id,
        "candidate": found.candidate.id,
        "fresh": _APART + len(store.runs()),
    }
    row = RunRow(
        id=new_run_id(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=_KIND,
        scenario=found.scenario.name,
        scenario_file=str(found.scenario.file.resolve()),
        scenario_hash=found.scenario.hash,
        options=options,
    )
    store.add_run(row)
    place.freeze(row.id, found.scenario.files)
    return row


async def _asked(session: Session, found: Baseline, fresh: int) -> list[Trial]:
    samples = [sample for sample in session.order if sample.id in found.scores]
    async with session:
        session.observe(Planned(session.run_id, (found.candidate.id,), len(samples), False))
        prepared = await _prepared(session, found)
        return await session.test(prepared, samples, repeat=fresh)


async def _prepared(session: Session, found: Baseline) -> Prepared:
    """The candidate as the run fitted it, where the scenario is the same or a model was tuned; else fitted anew."""
    candidate = found.candidate
    folder = session.workspace.fitted_folder(found.run.id, candidate.id)
    if folder.is_dir() and (candidate.technique.tunes or found.run.scenario_hash == session.scenario.hash):
        fitted, cost = load_fitted(folder), FitCost(Usage(), 0.0)
    elif candidate.technique.tunes:
        what = f"the tuned model of {candidate.id} is gone ({folder})."
        again = command("tune", as_argument(found.scenario.file), workspace=session.workspace.root)
        raise _refused(found.run.id, what, f"Gate another candidate, or tune again: {again}")
    else:
        made = await fit(session, candidate, session.scenario.task)
        fitted, cost = made.fitted, made.cost
    name, tuned = fitted.tuned or (candidate.model, None)
    return Prepared(candidate, fitted, session.chat(name, tuned), cost, ())


def _judged(session: Session, found: Baseline, trials: Sequence[Trial], rule: Rule) -> Gated:
    """Scores first, then the limit on failed requests, taken as measured."""
    group_of = {sample.id: sample.group for sample in session.order}
    before = np.array([found.scores[trial.sample_id] for trial in trials])
    now = np.array([math.nan if trial.score is None else trial.score.value for trial in trials])
    groups = [group_of[trial.sample_id] for trial in trials]
    decision = decide(before, now, rule, seed=session.seed, groups=groups)
    errors = int(np.isnan(now).sum())
    passed, sentence = decision.passed, explain(decision, found.candidate.id)
    allowed = found.scenario.goal.max_error_rate
    if errors > allowed * len(trials) and errors > found.errors:
        failed = f"{errors} of {counted(len(trials), 'request')} failed, {found.errors} did before"
        told = f"{failed}; at most {allowed:.3g} of all may."
        passed, sentence = False, f"{told} {sentence}" if decision.n else f"{found.candidate.id}: {told}"
    report = {
        "kind": "gate",
        "run_id": session.run_id,
        "against": found.run.id,
        "scenario": found.scenario.name,
        "candidate": found.candidate.id,
        **{
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(decision).items()
        },
        "passed": passed,
        "errors": {"before": found.errors, "now": errors},
        "sentence": sentence,
    }
    return Gated(passed, sentence, report, _written(session, report))


def _written(session: Session, report: Mapping[str, Any]) -> Path:
    """gate.json and junit.xml in the run's folder."""
    folder = session.workspace.run_folder(session.run_id)
    session.workspace.write(folder / "gate.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    session.workspace.write(folder / "junit.xml", junit(report, session.total_seconds))
    return folder


def junit(report: Mapping[str, Any], seconds: float) -> str:
    """The gate as a test of the JUnit format, for the test view of a CI system."""
    counts = {"tests": "1", "failures": str(int(not report["passed"])), "errors": "0"}
    suites = ElementTree.Element("testsuites", {"name": "advisor gate", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": report["scenario"], **counts})
    case = ElementTree.SubElement(
        suite, "testcase", classname=report["scenario"], name=report["candidate"], time=f"{seconds:.3f}"
    )
    if report["passed"]:
        ElementTree.SubElement(case, "system-out").text = report["sentence"]
    else:
        ElementTree.SubElement(case, "failure", message=report["sentence"])
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
