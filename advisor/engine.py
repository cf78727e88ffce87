"""The whole run: prepare, climb, escalate, recommend. `run` and `compare` are what the command line calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from advisor.billing import billed_among, unpriced
from advisor.candidates import lineup
from advisor.commands import Commands
from advisor.comparing import compare_all
from advisor.driver import arm, by_cost, climb, prepare_all
from advisor.estimating.ahead import keep_estimate, kept_estimate
from advisor.events import Event, Observer, Planned
from advisor.findings import FRESH, Findings, outcome
from advisor.judging import check_judge
from advisor.ladder import Ladder
from advisor.outcome import Outcome
from advisor.report.build import build
from advisor.report.card import write_card
from advisor.report.files import write_report
from advisor.report.html.evidence import gather
from advisor.resolution import resolution, unprovable
from advisor.scenario.load import load_scenario
from advisor.scenario.model import Overrides, Scenario
from advisor.serve.winner import keep_winner
from advisor.session import FRESH_SAMPLES, Session
from advisor.shortfalls import explain
from advisor.standing import ValueGate
from advisor.tuning.escalation import escalate
from advisor.tuning.former import check_options, check_workspace, find_formers, name_former
from advisor.tuning.uploads import uploads as found_uploads
from advisor.workspace import Workspace, new_run_id
from backends.errors import BudgetError, InputError, Problem
from backends.hardware import detect
from evals.cache import store_path
from evals.naming import LAST, REPORTED, Last, may_mean
from evals.store import RunKind, RunRow, RunStatus, Store

EXIT_PICKED, EXIT_NONE_MET, EXIT_BUDGET = 0, 1, 3
TUNE_TECHNIQUES = ("zero_shot", "fine_tune")
"""What `tune` looks at: the model before and after."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that came to an end."""

    report: Mapping[str, Any]
    folder: Path
    exit_code: int


def ignore(event: Event) -> None:
    """An observer that looks away."""


def run(
    scenario: str | Path,
    workspace: str | Path = ".advisor",
    overrides: Overrides | None = None,
    observe: Observer = ignore,
    resume: str | None = None,
) -> Finished:
    """Climb the ladder of a scenario and write the report. Raises AdvisorError; what was paid for stays stored."""
    return _execute("run", scenario, Workspace(Path(workspace)), overrides or Overrides(), observe, resume)


def compare(
    scenario: str | Path,
    workspace: str | Path = ".advisor",
    overrides: Overrides | None = None,
    observe: Observer = ignore,
    resume: str | None = None,
) -> Finished:
    """Run every candidate on the same test samples and compare them in pairs. Raises AdvisorError."""
    return _execute("compare", scenario, Workspace(Path(workspace)), overrides or Overrides(), observe, resume)


def tune(
    scenario: str | Path,
    workspace: str | Path = ".advisor",
    overrides: Overrides | None = None,
    observe: Observer = ignore,
    resume: str | None = None,
) -> Finished:
    """Fine-tune without a climb: pilot, training, and the model before and after on all test samples.

    With `overrides.continues` the tuned model of that run is trained on, and both are compared on the same samples.
    Raises AdvisorError; what was paid for stays stored.
    """
    chosen = overrides or Overrides()
    check_options(chosen.continues, chosen.start)
    if resume is None:
        chosen = replace(chosen, techniques=TUNE_TECHNIQUES)
    return _execute("tune", scenario, Workspace(Path(workspace)), chosen, observe, resume)


def _execute(
    kind: RunKind, path: str | Path, workspace: Workspace, overrides: Overrides, observe: Observer, resume: str | None
) -> Finished:
    if resume is None:
        # A broken scenario must not leave a workspace behind, nor one that no run could answer.
        check(kind, path, overrides)
        check_workspace(workspace, overrides.continues)
    with workspace.locked(), Store.open(store_path(workspace.root)) as store:
        former = None if resume is None else _former_sitting(store, kind, path, resume)
        if former is not None:
            overrides = _stored_overrides(former, kind, overrides, workspace)
        scenario = load_scenario(path, overrides)
        if former is None and overrides.continues is not None:
            named = name_former(store, workspace, scenario, overrides.continues)
            overrides = replace(overrides, continues=named)
        formers = find_formers(scenario, workspace, overrides)
        row = _begin(kind, scenario, store, workspace, overrides, former)
        session = Session(scenario, store, workspace, row.id, observe, formers)
        status: RunStatus = "interrupted"
        verdict = pick = None
        try:
            found = asyncio.run(_sitting(kind, session))
            status, verdict, pick = ("interrupted" if found.stopped else "done"), found.verdict, found.pick
            foreseen = kept_estimate(workspace, row.id)
            resolved = resolution(scenario, lineup(scenario))
            report = build(row, scenario, found, resolved, detect(), workspace.root, foreseen)
            write_card(workspace, report)
            _keep_pick(workspace, row.id, scenario, found)
            evidence = gather(store, row.id, scenario.goal, scenario)
            return Finished(report, write_report(workspace, report, evidence), _exit_code(found))
        except KeyboardInterrupt:
            # With the id, so that the message can say how to go on.
            raise KeyboardInterrupt(row.id, *session.left_running) from None
        except Exception:
            status = "failed"
            raise
        finally:
            store.spend_seconds(row.id, session.total_seconds)
            store.finish_run(row.id, status, verdict, pick)


def check(kind: RunKind, path: str | Path, overrides: Overrides | None = None) -> None:
    """Raise InputError for what is wrong with a scenario, or keeps any run of it from giving its answer."""
    scenario = load_scenario(path, overrides)
    found = lineup(scenario)
    problems = [unpriced(scenario, found.prompting), unprovable(scenario, found) if kind == "run" else None]
    if any(problems):
        raise InputError(problem for problem in problems if problem is not None)


def uploads(path: str | Path, overrides: Overrides | None = None) -> list[str]:
    """What fine-tuning would send to others and cost there, a sentence each. Raises InputError."""
    return found_uploads(load_scenario(path, overrides))


def billed_models(path: str | Path, overrides: Overrides | None = None) -> list[str]:
    """The models of a scenario whose calls spend money that leaves the house. Raises InputError."""
    scenario = load_scenario(path, overrides)
    found = lineup(scenario)
    # A tuned model's mistakes are grouped by meaning.
    return billed_among(scenario, (*found.prompting, *found.tuning), embeds=bool(found.tuning))


def kept_options(kind: RunKind, path: str | Path, workspace: str | Path, resume: str, given: Overrides) -> Overrides:
    """The options with which a run goes on: its own, but for the budget. Raises InputError for any others."""
    place = Workspace(Path(workspace))
    if not store_path(place.root).is_file():
        raise InputError(Problem(str(workspace), f"there is no run {resume!r}.", "`advisor runs` lists them."))
    with Store.open(store_path(place.root)) as store:
        return _stored_overrides(_former_sitting(store, kind, path, resume), kind, given, place)


def _former_sitting(store: Store, kind: RunKind, path: str | Path, name: str) -> RunRow:
    """The run to go on with; `last` is the newest of its kind and scenario that did not come to its end."""
    scenario = load_scenario(path).name if name == LAST else None
    return store.run(name, Last(f"interrupted `{kind}`", (kind,), ("running", "interrupted", "failed"), scenario))


def _begin(
    kind: RunKind,
    scenario: Scenario,
    store: Store,
    workspace: Workspace,
    overrides: Overrides,
    former: RunRow | None,
) -> RunRow:
    if former is None:
        row = RunRow(
            id=new_run_id(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            kind=kind,
            scenario=scenario.name,
            scenario_file=str(scenario.file.resolve()),
            scenario_hash=scenario.hash,
            options=asdict(overrides) | {"seed": scenario.seed},
        )
        store.add_run(row)
        workspace.freeze(row.id, scenario.files)
        keep_estimate(workspace, row.id, kind, scenario, overrides)
        return row
    if former.scenario_hash != scenario.hash:
        raise InputError(
            Problem(
                str(scenario.file),
                f"the scenario changed since run {former.id} began.",
                f"Undo the change (a copy is in {workspace.run_folder(former.id) / 'scenario'}) or start a new run; "
                "answers that still fit come from the cache.",
            )
        )
    return former


def _stored_overrides(row: RunRow, kind: RunKind, given: Overrides, workspace: Workspace) -> Overrides:
    """A resumed run goes on with its own options; only its budget may be changed."""
    if row.kind != kind:
        commands = Commands(Path(row.scenario_file), row.id, workspace.root)
        remedy = f"Go on with: {commands.resume(row.kind)}" if row.kind in REPORTED else "Begin it again."
        raise InputError(Problem(row.id, f"this is a `{row.kind}`.", remedy))
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.options.items()
    }
    stored = Overrides(**kept)
    same = replace(stored, budget_usd=None)
    if kind == "tune":
        # Not an option of that command.
        same = replace(same, techniques=None)
    # The seed is stored as it was chosen; the command that began the run may have left it open.
    asked = replace(given, budget_usd=None, seed=stored.seed if given.seed is None else given.seed)
    if stored.continues and given.continues and may_mean(given.continues, stored.continues):
        asked = replace(asked, continues=stored.continues)
    if asked not in (Overrides(seed=stored.seed), same):
        differ = ", ".join(one.name for one in fields(same) if getattr(asked, one.name) != getattr(same, one.name))
        raise InputError(
            Problem(
                row.id,
                f"a resumed run keeps its own options, and these differ: {differ}.",
                "Give the same ones or none; only --budget-usd may be changed.",
            )
        )
    return stored if given.budget_usd is None else replace(stored, budget_usd=given.budget_usd)


async def _sitting(kind: RunKind, session: Session) -> Outcome:
    async with session:
        findings = Findings(lineup(session.scenario))
        session.observe(_plan(session, findings))
        try:
            findings.judge_check = await check_judge(session)
        except BudgetError as error:
            findings.stopped = str(error)
            return outcome(session, kind, findings)
        if kind != "run":
            return await compare_all(session, findings)
        try:
            await _climb_and_escalate(session, findings)
        except BudgetError as error:
            findings.stopped = str(error)
        return outcome(session, kind, findings)


def _keep_pick(workspace: Workspace, run_id: str, scenario: Scenario, found: Outcome) -> None:
    """Put the picked candidate where `advisor serve` finds it."""
    known = lineup(scenario)
    for candidate in (*known.prompting, *known.tuning):
        if candidate.id == found.pick:
            keep_winner(workspace, run_id, scenario, candidate)


def _plan(session: Session, findings: Findings) -> Planned:
    names = [candidate.id for candidate in findings.lineup.prompting]
    resumed = bool(session.store.trials(session.run_id))
    return Planned(session.run_id, tuple(names), len(session.order), resumed, session.scenario.goal.target)


async def _climb_and_escalate(session: Session, findings: Findings) -> None:
    await prepare_all(session, findings.lineup.prompting, findings.prepared, findings.failed)
    findings.prepared = {one.candidate.id: one for one in by_cost(list(findings.prepared.values()))}
    findings.judge = ladder = Ladder(
        [arm(one) for one in findings.prepared.values()],
        session.scenario.goal,
        len(session.order),
        binary=session.scenario.scorer.binary,
        reserved_arms=len(findings.lineup.tuning),
        groups=[sample.group for sample in session.order],
        abreast=max(1, len(findings.prepared)) if session.race else 1,
        gate=_gate(session.scenario),
    )
    await climb(session, ladder, findings.prepared)
    await explain(session, findings)
    findings.escalation = await escalate(session, ladder, findings)
    await explain(session, findings)
    await _look_afresh(session, findings, ladder.picked)


async def _look_afresh(session: Session, findings: Findings, picked: str | None) -> None:
    """Run the pick on samples that had no part in picking it: an estimate free of selection, and an alarm."""
    if picked is not None and findings.judge is not None:
        unseen = session.order[findings.judge.standing(picked).n :][:FRESH_SAMPLES]
        if unseen:
            # The verdict stands without it; a budget that is used up must not turn a pick into a stopped run.
            with suppress(BudgetError):
                await session.test(findings.prepared[picked], unseen, variant=FRESH)


def _gate(scenario: Scenario) -> ValueGate | None:
    """What a test is worth, where the scenario says how much the answer will be used."""
    monthly = scenario.traffic.requests_per_month
    return None if monthly is None else ValueGate(monthly * scenario.traffic.months)


def _exit_code(found: Outcome) -> int:
    if found.stopped is not None and found.pick is None:
        return EXIT_BUDGET
    if found.kind == "tune":
        return EXIT_PICKED if any(row.tuned and row.status == "certified" for row in found.rows) else EXIT_NONE_MET
    return EXIT_PICKED if found.pick is not None or found.kind == "compare" else EXIT_NONE_MET
