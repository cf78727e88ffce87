"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backends.errors import InputError, Problem

if TYPE_CHECKING:
    from advisor.scenario.model import Overrides

ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO", help="A scenario folder or its scenario.yaml.")]
Models = Annotated[str | None, typer.Option(help="Models to try instead of the scenario's: a,b", metavar="A,B")]
Techniques = Annotated[
    str | None,
    typer.Option(help="Techniques to try instead: a,b; fine_tune.when decides about training.", metavar="A,B"),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only this many test samples.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
BudgetUsd = Annotated[float | None, typer.Option(min=0, help="Never spend more dollars than this.")]
WorkspaceDir = Annotated[Path, typer.Option("--workspace", help="Where runs, answers and adapters are kept.")]
Race = Annotated[bool, typer.Option("--race", help="Test all candidates side by side: sooner done, more spent.")]
Batch = Annotated[
    bool,
    typer.Option("--batch", help="Send billed requests in batches where endpoints have them: half price, but slower."),
]
Diagnose = Annotated[
    bool, typer.Option("--diagnose/--no-diagnose", help="Find out why candidates that fall short do, by ablations.")
]
FailUnder = Annotated[float | None, typer.Option(metavar="X", help="Exit with 1 when the best mean score is below X.")]
Repeats = Annotated[int, typer.Option(min=1, help="Ask about each sample this often; its mean is one observation.")]
Probe = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Ask about N dev samples a candidate first, which is paid for."),
]
Resume = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Go on with an interrupted run, or the `last` one; nothing is paid twice."),
]
Continue = Annotated[
    str | None,
    typer.Option(
        "--continue",
        metavar="RUN",
        help="Train the tuned model of a former run, or the `last` one, on with the data of today.",
    ),
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="START", help="adapter or base: where --continue starts. Default: what fits."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the report object here.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before spending money.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the verdict only.")]


def overrides_of(
    models: str | None, techniques: str | None, limit: int | None, seed: int | None, budget_usd: float | None
) -> Overrides:
    """The options as the engine takes them. Raises InputError for a list that names nothing."""
    from advisor.scenario.model import Overrides

    return Overrides(
        models=_list("--models", models),
        techniques=_list("--techniques", techniques),
        limit=limit,
        seed=seed,
        budget_usd=budget_usd,
    )


def _list(option: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InputError(Problem(option, "names nothing.", "Give a list: a,b"))
    return names
