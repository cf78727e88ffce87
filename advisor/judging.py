"""What a run knows about its judge: which model it is, and how far it agrees with the people who scored answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from advisor.session import Session
from evals.scorers.agreement import Calibration, calibrate, judge_of
from evals.scorers.judge import JUDGE_WARNING

_MOST_ANSWERS = 200


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """The judge behind the scores of a run."""

    model: str
    competes: bool
    """Whether it is one of the models it judges; such a judge favours its own answers (arXiv:2306.05685, 3.3)."""
    calibration: Calibration | None
    """None when the data carry no scores of people."""

    def as_json(self) -> dict[str, Any]:
        """What the report shows."""
        found = self.calibration
        return {
            "model": self.model,
            "warning": JUDGE_WARNING,
            "competes": self.competes,
            "agreement": None if found is None or found.agreement is None else asdict(found.agreement),
            "errors": None if found is None else found.errors,
            "usd": None if found is None else found.usage.cost_usd,
            "requests": 0 if found is None else found.usage.requests,
        }


async def check_judge(session: Session) -> JudgeCheck | None:
    """Hold the judge against people's scores on train and dev samples; None when the scorer asks no judge."""
    judge = judge_of(session.scenario.scorer)
    if judge is None:
        return None
    task = session.scenario.task
    scored = [sample for sample in (*task.dev, *task.train) if judge.labelled(sample) is not None]
    found = await calibrate(judge, scored[:_MOST_ANSWERS], session.scoring_meter)
    return JudgeCheck(judge.model, judge.model in session.scenario.models, found)
