"""Commands as people paste them: arguments quoted, the workspace named where it is not the default one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from advisor.scenario.paths import FILE_NAME

DEFAULT_WORKSPACE = Path(".advisor")
_BEGINS = ": advisor "
"""Where the command of a sentence begins."""


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands about one scenario and one run of it, good in the folder in which they are made."""

    scenario: Path
    """The folder or the file."""
    run_id: str
    workspace: Path

    def about(self, name: str, *options: str) -> str:
        """`advisor NAME SCENARIO OPTIONS`."""
        return command(name, as_argument(self.scenario), *options, workspace=self.workspace)

    def resume(self, name: str) -> str:
        """Goes on with the run, which is a `run`, a `compare` or a `tune`."""
        return self.about(name, "--resume", self.run_id)

    def of_run(self, name: str) -> str:
        """`advisor NAME RUN`."""
        return command(name, self.run_id, workspace=self.workspace)


def renewed(sentence: str, commands: Commands) -> str:
    """A sentence that ends with a command made elsewhere, its command good in the current folder; others as they are.

    The scenario, or the run, and the workspace become those of `commands`; the other options stay.
    """
    said, _, rest = sentence.partition(_BEGINS)
    try:
        words = shlex.split(rest)
    except ValueError:
        return sentence
    # Texts of samples are quoted in sentences too: what is not written as commands are is none.
    if len(words) < 2 or shlex.join(words) != rest:
        return sentence
    name, what, *options = words
    if options[-2:-1] == ["--workspace"]:
        options = options[:-2]
    if what != commands.run_id:
        what = as_argument(commands.scenario)
    return f"{said}: {command(name, what, *options, workspace=commands.workspace)}"


def command(name: str, *arguments: str, workspace: Path) -> str:
    """A command that takes `--workspace`, as it is typed into a shell."""
    where = () if workspace == DEFAULT_WORKSPACE else ("--workspace", str(workspace))
    return shlex.join(["advisor", name, *arguments, *where])


def as_argument(scenario: Path) -> str:
    """A scenario as a command names it: as it was given where that was relative, else short beneath the current folder.

    Paths that were made absolute keep the `..` they were given with, so that these come back too.
    """
    path = scenario.parent if scenario.name == FILE_NAME else scenario
    here = Path.cwd()
    text = str(path.relative_to(here) if path.is_relative_to(here) else path)
    # What begins with a hyphen would be taken for an option.
    return f"./{text}" if text.startswith("-") else text
