"""Asks the model before and after training the same general questions, and compares sample by sample.

Fine-tuning on a narrow task can make a model forget (McCloskey and Cohen 1989; for language models Luo et al. 2023,
arXiv:2308.08747). The probe that ships is small and easy on purpose: a model that loses it has lost a lot.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from advisor.events import Evaluated
from advisor.session import Prepared, Session
from backends.errors import RequestError
from backends.meter import Meter
from backends.types import ChatRequest, Message
from evals.cache import CachedChat
from evals.runner import Runner, Work
from evals.scorers.text import Exact
from evals.statistics.paired import compare_pair
from evals.statistics.types import FloatArray
from evals.task import Sample
from evals.trial import RETENTION, Trial

PROBE_FILE = Path(__file__).with_name("probe.jsonl")
_INSTRUCTIONS = "Answer the question with one of the choices."
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Accuracy on the probe before and after training, on the same questions."""

    n: int
    """Questions both models answered."""
    before: float
    after: float
    difference: float
    """After minus before; negative when something was forgotten."""
    low: float
    high: float
    """Of the difference, at the goal's confidence."""
    p_value: float
    """Two-sided, of no difference."""
    lost: tuple[str, ...]
    """Ids of at most three questions that only the untrained model answered."""

    def as_json(self) -> dict[str, Any]:
        """What the report shows."""
        return asdict(self) | {"lost": list(self.lost)}


@lru_cache(maxsize=1)
def shipped_probe() -> tuple[Sample, ...]:
    """64 questions of general knowledge with four choices each, written by this project."""
    rows = [json.loads(line) for line in PROBE_FILE.read_text("utf-8").splitlines()]
    return tuple(Sample(row["id"], row["input"], row["target"], {"choices": row["choices"]}) for row in rows)


async def forgetting(session: Session, tuned: Prepared) -> Forgetting | None:
    """Probe the base model and the tuned one; None when they answered too little to compare. Trials are stored."""
    probe = session.scenario.probe or shipped_probe()
    base = session.chat(tuned.candidate.model)
    before = await _probed(session, tuned, "before", base, probe)
    after = await _probed(session, tuned, "after", tuned.chat, probe)
    first, second = _scores(after), _scores(before)
    if np.count_nonzero(~np.isnan(first + second)) < 2:
        return None
    found = compare_pair(first, second, seed=session.seed, level=session.scenario.goal.confidence)
    both = ~np.isnan(first + second)
    lost = [sample.id for sample, now, then in zip(probe, first, second, strict=True) if then == 1 and now == 0]
    return Forgetting(
        n=found.n,
        before=float(second[both].mean()),
        after=float(first[both].mean()),
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        lost=tuple(lost[:_EXAMPLES]),
    )


async def _probed(
    session: Session, tuned: Prepared, when: str, chat: CachedChat, probe: tuple[Sample, ...]
) -> list[Trial]:
    session.check_time()
    runner = Runner(session.store, session.run_id, Exact(), lambda trial: session.observe(Evaluated(trial)))
    return await runner.run(Work(tuned.candidate.id, _answer, chat, "dev", f"{RETENTION}{when}"), probe)


async def _answer(sample: Sample, models: Meter) -> str:
    """The choice the model takes; free text where a question has no choices."""
    choices = tuple(map(str, sample.metadata.get("choices") or ()))
    if len(choices) == 1:
        raise RequestError("a question with one choice probes nothing")
    listed = f"\nChoices: {', '.join(choices)}" if choices else ""
    messages = (Message("system", _INSTRUCTIONS), Message("user", f"{sample.input}{listed}"))
    return (await models.complete(ChatRequest(messages, max_tokens=32, choices=choices))).text


def _scores(trials: list[Trial]) -> FloatArray:
    return np.array([np.nan if trial.score is None else trial.score.value for trial in trials])
