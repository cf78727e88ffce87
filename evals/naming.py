"""Which run somebody means: by its id, by an unambiguous beginning of one, or by `last`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backends.errors import InputError, Problem

if TYPE_CHECKING:
    from evals.store import RunKind, RunRow, RunStatus

LAST = "last"
REPORTED: tuple[RunKind, ...] = ("run", "compare", "tune")
"""Kinds of runs that end with a report; probes and gates do not."""


@dataclass(frozen=True, slots=True)
class Last:
    """What `last` means to a command: the newest of these runs."""

    called: str = "run"
    """What they are called where there is none."""
    kinds: tuple[RunKind, ...] = REPORTED
    statuses: tuple[RunStatus, ...] | None = None
    """None takes any."""
    scenario: str | None = None
    """Name of their scenario; None takes any."""
    fits: Callable[[RunRow], bool] | None = None
    """What else must hold."""
    remedy: str = "`advisor runs` lists them."

    def means(self, run: RunRow) -> bool:
        """Whether the run is one of these."""
        return (
            run.kind in self.kinds
            and (self.statuses is None or run.status in self.statuses)
            and (self.scenario is None or run.scenario == self.scenario)
            and (self.fits is None or self.fits(run))
        )


def find_run(runs: Sequence[RunRow], name: str, where: str, last: Last | None = None) -> RunRow:
    """The run that a name means.

    Args:
        runs: Those of a workspace, oldest first.
        name: An id, an unambiguous beginning of one, or `last` where that is given a meaning.
        where: What problems name as their place.
        last: Which runs `last` may mean; None knows no `last`.

    Raises:
        InputError: There is no such run, or several.
    """
    if last is not None and name == LAST:
        return _last(runs, where, last)
    found = [run for run in runs if run.id.startswith(name)]
    exact = [run for run in found if run.id == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    what = f"{len(found)} runs begin with {name!r}." if found else f"there is no run {name!r}."
    raise InputError(Problem(where, what, "`advisor runs` lists them."))


def _last(runs: Sequence[RunRow], where: str, last: Last) -> RunRow:
    run = next((run for run in reversed(runs) if last.means(run)), None)
    if run is None:
        of = "" if last.scenario is None else f" of {last.scenario}"
        raise InputError(Problem(where, f"the workspace has no {last.called}{of}.", last.remedy))
    return run


def may_mean(name: str, run_id: str) -> bool:
    """Whether a name may have meant this run when it was given."""
    return name == LAST or run_id.startswith(name)
