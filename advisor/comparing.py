"""`advisor compare`: every candidate on all test samples, then every pair on the same samples."""

from advisor.findings import Findings
from advisor.outcome import Outcome
from advisor.session import Session


async def compare_all(session: Session, findings: Findings) -> Outcome:
    raise AssertionError
