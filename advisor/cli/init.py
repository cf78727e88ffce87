"""`advisor init`: what was made, what was guessed, what to check."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from advisor.starting.columns import Wishes
from advisor.starting.initialise import Made, init
from backends.errors import InputError


def show_init(
    console: Console, source: Path, into: Path | None, name: str | None, wishes: Wishes, force: bool, quiet: bool
) -> Made:
    """Make the scenario and print what a person should know of it.

    Raises InputError when the source cannot be used, or when `advisor check` would refuse what was made.
    """
    made = init(source, into, name=name, wishes=wishes, force=force)
    for line in _brief(made) if quiet else _lines(made):
        console.print(line, soft_wrap=True)
    if made.problems:
        raise InputError(made.problems)
    return made


def _brief(made: Made) -> list[Text]:
    return [Text(str(made.folder))]


def _lines(made: Made) -> list[Text]:
    rows = ", ".join(f"{number} {split}" for split, number in made.splits)
    lines = [Text(f"{made.folder}: a scenario with {rows} samples.")]
    lines += [Text(""), Text("Guessed, and written into scenario.yaml with the reasons:", "bold")]
    width = max(len(guess.what) for guess in made.guesses)
    for guess in made.guesses:
        lines.append(Text.assemble((f"  {guess.what:<{width}}  ", "bold"), guess.value, (f" ({guess.why})", "dim")))
        lines += [Text(f"  {'':<{width}}  check: {guess.check}")] if guess.check else []
    if made.lost:
        lines += [Text(""), Text("Not taken over:", "bold"), *(Text(f"  {one}") for one in made.lost)]
    lines += [Text(""), *(Text(f"note: {warning}") for warning in made.warnings)]
    lines += [Text(f"power: {made.resolved}")] if made.resolved else []
    if not made.problems:
        lines.append(Text(f"Next: read {made.folder / 'scenario.yaml'}, then advisor check {made.folder}"))
    return lines
