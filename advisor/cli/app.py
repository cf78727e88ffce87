"""The commands and their options."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from advisor.cli.asking import Sitting, consent, consent_to, consent_to_probes
from advisor.cli.json_file import check_json, write_json
from advisor.cli.options import (
    Batch,
    BudgetUsd,
    Continue,
    Diagnose,
    FailUnder,
    From,
    JsonFile,
    Limit,
    Models,
    Probe,
    Quiet,
    Race,
    Repeats,
    Resume,
    ScenarioPath,
    Seed,
    Techniques,
    WorkspaceDir,
    Yes,
    overrides_of,
)
from advisor.commands import DEFAULT_WORKSPACE, Commands
from backends.errors import AdvisorError, BackendError, InputError, WorkspaceError

if TYPE_CHECKING:
    from advisor.engine import Finished
    from advisor.scenario.model import Overrides

_INTERRUPTED = 130

app = typer.Typer(
    name="advisor",
    help="Find the cheapest way that provably makes a language model meet your target.\n\n"
    "Example: advisor run scenarios/helpdesk_routing",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_out = Console()
_err = Console(stderr=True)


@app.command("init")
def start(
    source: Annotated[
        Path, typer.Argument(metavar="DATA", help="A table, a chat file, a promptfoo file, an OpenAI Evals export.")
    ],
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write. Default: named after the source.")
    ] = None,
    target_column: Annotated[str | None, typer.Option(metavar="X", help="Column with the right answers.")] = None,
    input_column: Annotated[
        str | None, typer.Option(metavar="Y", help="Column with the input, or several: a,b")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="N", help="Name of the scenario. Default: the folder's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the folder only.")] = False,
) -> None:
    """Make a scenario of data you have; says what it guessed and what to check.

    Example: advisor init tickets.csv --into tickets
    """
    from advisor.cli.init import show_init
    from advisor.starting.columns import Wishes

    show_init(_out, source, into, name, Wishes(input_column, target_column), force, quiet)


@app.command()
def check(
    scenario: ScenarioPath,
    models: Models = None,
    techniques: Techniques = None,
    limit: Limit = None,
    seed: Seed = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print problems only.")] = False,
) -> None:
    """Validate a scenario and spend nothing; lists every problem.

    Example: advisor check scenarios/helpdesk_routing
    """
    from advisor.cli.check import show_check

    show_check(_out, scenario, overrides_of(models, techniques, limit, seed, None), quiet)


@app.command()
def estimate(
    scenario: ScenarioPath,
    models: Models = None,
    techniques: Techniques = None,
    limit: Limit = None,
    seed: Seed = None,
    budget_usd: BudgetUsd = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    batch: Batch = False,
    probe: Probe = None,
    json_file: JsonFile = None,
    yes: Yes = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the total only.")] = False,
) -> None:
    """Dollars, tokens and minutes before a run, per candidate and in all; spends nothing unless --probe is given.

    Example: advisor estimate scenarios/helpdesk_routing
    """
    from advisor.cli.estimate import show_estimate

    overrides = replace(overrides_of(models, techniques, limit, seed, budget_usd), batch=batch)
    check_json(json_file)
    if probe is not None:
        consent_to_probes(scenario, overrides, probe, yes)
    found, exit_code = show_estimate(_out, scenario, overrides, workspace, probe, quiet)
    write_json(json_file, found)
    raise typer.Exit(exit_code)


@app.command()
def run(
    scenario: ScenarioPath,
    models: Models = None,
    techniques: Techniques = None,
    limit: Limit = None,
    seed: Seed = None,
    budget_usd: BudgetUsd = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    race: Race = False,
    batch: Batch = False,
    diagnose: Diagnose = True,
    resume: Resume = None,
    json_file: JsonFile = None,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Climb from the cheapest candidate up until one provably meets the target; fine-tune if none does.

    Example: advisor run scenarios/helpdesk_routing --seed 1
    """
    overrides = overrides_of(models, techniques, limit, seed, budget_usd)
    overrides = replace(overrides, race=race, batch=batch, diagnose=diagnose)
    check_json(json_file)
    consent(_out, scenario, overrides, Sitting("run", workspace, resume), yes, quiet)
    _finish(_sit("run", scenario, workspace, overrides, resume, quiet), json_file, quiet)


@app.command()
def compare(
    scenario: ScenarioPath,
    models: Models = None,
    techniques: Techniques = None,
    limit: Limit = None,
    seed: Seed = None,
    budget_usd: BudgetUsd = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    repeats: Repeats = 1,
    batch: Batch = False,
    diagnose: Diagnose = True,
    fail_under: FailUnder = None,
    resume: Resume = None,
    json_file: JsonFile = None,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Run every candidate on the same test samples: intervals, paired tests, Pareto front.

    Example: advisor compare scenarios/helpdesk_routing --techniques zero_shot,knn_few_shot,fine_tune
    """
    from advisor.regression import check_mark

    overrides = overrides_of(models, techniques, limit, seed, budget_usd)
    overrides = replace(overrides, repeats=repeats, batch=batch, diagnose=diagnose)
    check_json(json_file)
    if fail_under is not None:
        check_mark(fail_under)
    consent(_out, scenario, overrides, Sitting("compare", workspace, resume), yes, quiet)
    _finish(_sit("compare", scenario, workspace, overrides, resume, quiet), json_file, quiet, fail_under)


@app.command()
def tune(
    scenario: ScenarioPath,
    models: Models = None,
    limit: Limit = None,
    seed: Seed = None,
    budget_usd: BudgetUsd = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    continues: Continue = None,
    start: From = None,
    batch: Batch = False,
    diagnose: Diagnose = True,
    resume: Resume = None,
    json_file: JsonFile = None,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune without a climb: pilot and forecast, training, and the model before and after on all test samples.

    Example: advisor tune scenarios/helpdesk_routing
    """
    overrides = overrides_of(models, None, limit, seed, budget_usd)
    overrides = replace(overrides, batch=batch, diagnose=diagnose, continues=continues, start=start)
    check_json(json_file)
    consent(_out, scenario, overrides, Sitting("tune", workspace, resume), yes, quiet)
    _finish(_sit("tune", scenario, workspace, overrides, resume, quiet), json_file, quiet)


@app.command()
def gate(
    scenario: ScenarioPath,
    against: Annotated[str, typer.Option(metavar="RUN", help="A former run: its id, the beginning of it, or `last`.")],
    candidate: Annotated[
        str | None, typer.Option(metavar="ID", help="One of its candidates. Default: its pick.")
    ] = None,
    margin: Annotated[float, typer.Option(help="Drop of the mean score to put up with.")] = 0.0,
    alpha: Annotated[float, typer.Option(help="Probability at most that an unchanged candidate fails.")] = 0.05,
    budget_usd: BudgetUsd = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    json_file: JsonFile = None,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Ask a candidate of a former run again; exit with 1 when it got worse by a paired test.

    Example: advisor gate scenarios/helpdesk_routing --against last
    """
    from advisor.cli.gate import show_gate
    from advisor.gate import baseline
    from advisor.regression import Rule, check_rule

    rule = Rule(margin, alpha)
    check_rule(rule)
    check_json(json_file)
    found = baseline(scenario, against, workspace, candidate=candidate, budget_usd=budget_usd)
    consent_to(found.billed, yes)
    try:
        gated = show_gate(_out, found, workspace, rule, quiet)
    except KeyboardInterrupt:
        _err.print("Interrupted. A gate is begun again from the start.", markup=False, highlight=False)
        raise typer.Exit(_INTERRUPTED) from None
    write_json(json_file, gated.report)
    raise typer.Exit(gated.exit_code)


@app.command()
def models(
    pattern: Annotated[
        str | None, typer.Argument(metavar="PATTERN", help="Part of a name, or one with * and ?.", show_default=False)
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="NAME", help="Ask this endpoint what it has: openai, or one of advisor.toml.")
    ] = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    json_file: JsonFile = None,
) -> None:
    """List models: prices, context, what tuning costs and until when, shutdown dates, what is installed here.

    Example: advisor models gpt-4.1
    """
    from advisor.cli.models import show_models

    check_json(json_file)
    write_json(json_file, show_models(_out, pattern, endpoint, workspace))


@app.command()
def runs(workspace: WorkspaceDir = DEFAULT_WORKSPACE, json_file: JsonFile = None) -> None:
    """List the runs of this workspace.

    Example: advisor runs
    """
    from advisor.cli.history import show_runs

    check_json(json_file)
    write_json(json_file, show_runs(_out, workspace))


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, its unambiguous beginning, or `last`.")],
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write the report of a finished run again and show it.

    Example: advisor report last
    """
    from advisor.cli.history import rewrite_report
    from advisor.cli.tables import show_report

    found, folder = rewrite_report(workspace, run_id)
    show_report(_out, found, folder, quiet)
    write_json(json_file, found)


@app.command()
def serve(
    what: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="A run with a pick, the `last` one, or a model: backend/model.")
    ],
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Answer the OpenAI chat protocol with the winner of a run: prompts, retrieval and tuned weights included.

    Example: advisor serve last
    """
    from advisor.cli.serve import serve as serve_until_stopped

    serve_until_stopped(_out, what, workspace, host, port)


def main() -> None:
    """Entry point: errors that are meant to be read become one message and an exit code, never a traceback."""
    try:
        app()
    except AdvisorError as error:
        _say(error)
        sys.exit(error.exit_code)


def _say(error: AdvisorError) -> None:
    problems = error.problems if isinstance(error, InputError) else ()
    if len(problems) > 1:
        _err.print(f"{len(problems)} problems:", markup=False, highlight=False)
    for line in [str(problem) for problem in problems] or [str(error)]:
        _err.print(line, markup=False, highlight=False, soft_wrap=True)


def _sit(kind: str, scenario: Path, workspace: Path, overrides: Overrides, resume: str | None, quiet: bool) -> Finished:
    from advisor import engine
    from advisor.cli.progress import display
    from advisor.events import Event, Planned

    begun: list[str] = []

    def told(event: Event) -> None:
        if isinstance(event, Planned):
            begun.append(event.run_id)
        observe(event)

    try:
        with display(_out, quiet) as observe:
            execute = {"run": engine.run, "compare": engine.compare, "tune": engine.tune}[kind]
            return execute(scenario, workspace, overrides, told, resume)
    except KeyboardInterrupt as interrupt:
        # Caught here: typer would turn it into a silent exit.
        run_id, *left = interrupt.args or ("",)
        how = [f"Go on with: {Commands(scenario, run_id, workspace).resume(kind)}"] if run_id else []
        text = " ".join(["Interrupted. Nothing that was done is lost.", *left, *how])
        _err.print(text, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(_INTERRUPTED) from None
    except (BackendError, WorkspaceError) as error:
        _say(error)
        for run_id in begun:
            text = f"Go on with: {Commands(scenario, run_id, workspace).resume(kind)}"
            _err.print(text, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None


def _finish(finished: Finished, json_file: Path | None, quiet: bool, fail_under: float | None = None) -> None:
    from advisor.cli.gate import exit_code_under
    from advisor.cli.tables import show_report

    show_report(_out, finished.report, finished.folder, quiet)
    write_json(json_file, finished.report)
    raise typer.Exit(exit_code_under(_out, finished.report, fail_under, finished.exit_code))
