"""Everything this product raises on purpose.

AdvisorError                 something a person should read, never a traceback
├── InputError               what the user gave is wrong; carries every Problem found (exit code 2)
├── WorkspaceError           the workspace cannot be used: locked, read-only, full (exit code 4)
├── BudgetError              the next call could overshoot the budget (exit code 3, resumable)
└── BackendError             a model could not answer
    ├── RequestError         this one request failed; the trial records it and the run goes on
    └── BackendUnavailable   the backend fails for good: wrong key, no memory (exit code 4)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backends.types import Usage


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the user's input."""

    where: str
    """File, file:line or key, as the user would look for it."""
    what: str
    """What is wrong, with the value shown."""
    remedy: str
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.remedy}".rstrip()


class AdvisorError(Exception):
    """Base of all errors that are meant to be read; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(AdvisorError):
    """The user's input is wrong. `problems` holds all of them, in file order."""

    exit_code = 2

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class WorkspaceError(AdvisorError):
    """The workspace folder or its store cannot be read or written."""

    exit_code = 4


class BudgetError(AdvisorError):
    """The budget is used up; what was learnt so far is stored and the run can be resumed."""

    exit_code = 3


class BackendError(AdvisorError):
    """A backend could not answer."""

    exit_code = 4


class RequestError(BackendError):
    """One request failed (too long, refused, malformed answer); other requests may succeed.

    `usage` is what was, or at worst may have been, paid for nothing.
    """

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        self.usage = usage or Usage()
        super().__init__(message)


class BackendUnavailable(BackendError):
    """No request to this backend can succeed until a person does something."""
