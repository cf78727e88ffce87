"""Which candidates fell short, and asking the diagnosis why; what it finds moves no verdict."""

from __future__ import annotations

from advisor.diagnosis.diagnose import diagnose
from advisor.findings import Findings
from advisor.session import Session
from backends.errors import BudgetError

_SHORT = frozenset({"eliminated", "hopeless", "unresolved"})


async def explain(session: Session, findings: Findings) -> None:
    """Diagnose every candidate that fell short and was not looked into yet; `findings.diagnoses` takes note.

    A budget that ends here ends the diagnosis and not the run: the verdict stands without it.
    """
    if not session.diagnoses:
        return
    for name, prepared in findings.prepared.items():
        if name in findings.diagnoses or not _fell_short(name, findings):
            continue
        trials = session.store.trials(session.run_id, name, "test", variant="")
        try:
            findings.diagnoses[name] = await diagnose(session, prepared, trials)
        except BudgetError as error:
            findings.undiagnosed = str(error)
            return


def _fell_short(candidate: str, findings: Findings) -> bool:
    try:
        return findings.judge is not None and findings.judge.standing(candidate).status in _SHORT
    except KeyError:  # the budget ended before it was tested
        return False
