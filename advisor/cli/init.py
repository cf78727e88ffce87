"""`advisor init`: what was made, what was guessed, what to check."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from advisor.starting.columns import Wishes
from advisor.starting.draft import Guess
from advisor.starting.initialise import Made, init
from backends.errors import InputError


def show_init(
    console: Console, source: Path, into: Path | None, name: str | None, wishes: Wishes, force: bool, quiet: bool
) -> Made:
    """Make the scenario and print what a person should know of it.

    Raises InputError when the source cannot be used, or when `advisor check` would refuse what was made.
    """
    made = init(source, into, name=name, wishes=wishes, force=force)
    if quiet:
        console.print(Text(str(made.folder)), soft_wrap=True)
    else:
        for part in _parts(made):
            # Paths and commands are to be copied in one piece; tables fold by themselves.
            console.print(part, soft_wrap=isinstance(part, Text))
    if made.problems:
        raise InputError(made.problems)
    return made


def _parts(made: Made) -> Iterator[RenderableType]:
    rows = ", ".join(f"{number} {split}" for split, number in made.splits)
    yield Text(f"{made.folder}: a scenario with {rows} samples.")
    yield Text("\nGuessed, and written into scenario.yaml with the reasons:", "bold")
    yield _table(made.guesses)
    if made.lost:
        yield Text("\nNot taken over:", "bold")
        yield from (Text(f"  {one}") for one in made.lost)
    yield Text("")
    yield from (Text(f"note: {warning}") for warning in made.warnings)
    if made.resolved is not None:
        yield Text(f"power: {made.resolved}")
    if not made.problems:
        yield Text(
            f"Next: read {made.folder / 'scenario.yaml'}, then {shlex.join(['advisor', 'check', str(made.folder)])}"
        )


def _table(guesses: tuple[Guess, ...]) -> Table:
    table = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for guess in guesses:
        table.add_row(Text(guess.what), Text.assemble(guess.value, (f" ({guess.why})", "dim")))
        if guess.check:
            table.add_row("", Text(f"check: {guess.check}"))
    return table
