"""Asks the model before and after training the same general questions, and compares sample by sample.

Fine-tuning on a narrow task can make a model forget (McCloskey and Cohen 1989; for language models Luo et al. 2023,
arXiv:2308.08747). The probe that ships is small and easy on purpose: a model that loses it has lost a lot.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from advisor.events import Evaluated
from advisor.scenario.model import Probe
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
_INSTRUCTIONS = "Answer the question."
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Accuracy on a probe before and after training, on the same questions."""

    probe: str
    """What the scenario calls the questions."""
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
    chance: float | None
    """Accuracy of guessing: a model that was no better before has nothing to lose. None for free answers."""
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


async def forgetting(session: Session, tuned: Prepared) -> tuple[Forgetting, ...]:
    """Ask the base model and the tuned one every probe; trials are stored.

    A probe of which they answered too little to compare is left out. What the base model answered to an earlier
    candidate's probe comes from the cache.
    """
    probes = session.scenario.probes or (Probe("general knowledge", shipped_probe()),)
    found = [await _compared(session, tuned, probe) for probe in probes]
    return tuple(one for one in found if one is not None)


async def _compared(session: Session, tuned: Prepared, asked: Probe) -> Forgetting | None:
    probe = asked.samples
    before = await _probed(session, tuned, f"before {asked.name}", session.chat(tuned.candidate.model), probe)
    after = await _probed(session, tuned, f"after {asked.name}", tuned.chat, probe)
    first, second = _scores(after), _scores(before)
    if np.count_nonzero(~np.isnan(first + second)) < 2:
        return None
    found = compare_pair(first, second, seed=session.seed, level=session.scenario.goal.confidence)
    both = ~np.isnan(first + second)
    lost = [sample.id for sample, now, then in zip(probe, first, second, strict=True) if then == 1 and now == 0]
    return Forgetting(
        probe=asked.name,
        n=found.n,
        before=float(second[both].mean()),
        after=float(first[both].mean()),
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        chance=_chance(probe),
        lost=tuple(lost[:_EXAMPLES]),
    )


async def _probed(
    session: Session, tuned: Prepared, when: str, chat: CachedChat, probe: tuple[Sample, ...]
) -> list[Trial]:
    session.check_time()
    runner = Runner(session.store, session.run_id, Exact(), lambda trial: session.observe(Evaluated(trial)))
    return await runner.run(Work(tuned.candidate.id, _answer, chat, "dev", f"{RETENTION}{when}"), probe)


async def _answer(sample: Sample, models: Meter) -> str:
    """The choice the model takes; free text where a question has no choices.

    Choices are not listed in the question: a small model then takes the first (SmolLM2-135M, of 64 questions 34 times,
    and 36 % are right; without the list 61 %). Where an endpoint cannot hold answers to choices, its backend does it.
    """
    choices = _choices(sample)
    if len(choices) == 1:
        raise RequestError("a question with one choice probes nothing")
    messages = (Message("system", _INSTRUCTIONS), Message("user", sample.input))
    return (await models.complete(ChatRequest(messages, max_tokens=32, choices=choices))).text


def _choices(sample: Sample) -> tuple[str, ...]:
    return tuple(map(str, sample.metadata.get("choices") or ()))


def _chance(probe: Sequence[Sample]) -> float | None:
    """Expected accuracy of one who guesses; None where a question has no choices."""
    sizes = [len(_choices(sample)) for sample in probe]
    return sum(1 / size for size in sizes) / len(sizes) if sizes and all(sizes) else None


def _scores(trials: list[Trial]) -> FloatArray:
    return np.array([np.nan if trial.score is None else trial.score.value for trial in trials])
