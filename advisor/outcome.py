"""What a run found, as facts: one row a candidate, and what the rows mean together; nothing of how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from advisor.candidates import Chosen, LeftOut
from advisor.diagnosis.causes import Diagnosis
from advisor.judging import JudgeCheck
from advisor.measure import Serving, StepCost
from advisor.retrieval.metrics import RetrievalQuality
from advisor.standing import Outlook, Verdict
from advisor.tuning.forgetting import Forgetting
from advisor.tuning.gain import Gain
from advisor.tuning.mistakes import Mistakes
from advisor.tuning.paying import Worth
from advisor.tuning.pilot import Pilot
from advisor.tuning.successor import Succession
from advisor.tuning.teaching import Teaching
from backends.types import Parity, Usage
from evals.statistics.sequential import Interval
from evals.store import RunKind

CandidateStatus = Literal["certified", "eliminated", "hopeless", "unresolved", "not_needed", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate: how it stands, and what it measured."""

    id: str
    technique: str
    model: str
    tuned: bool
    status: CandidateStatus
    reason: str
    """One sentence: why it stands so."""
    samples: int
    """Test samples it was judged by."""
    errors: int
    """Of these, samples that got no answer."""
    error_texts: tuple[tuple[str, int], ...]
    """The commonest errors of test trials, with counts."""
    interval: Interval | None
    """Of the test score; None when no test sample was run."""
    at_least: float | None
    """What a certificate proves: a one-sided lower bound of the score; None unless certified."""
    fresh: Interval | None
    """Score of a pick on test samples that had no part in picking it: free of selection, for reporting only."""
    pass_hat: Mapping[int, float] | None
    """k -> probability that k repeats on one sample all succeed; None without repeats of 0/1 scores."""
    test: Serving
    dev: Serving
    fit: Usage
    fit_seconds: float
    evaluation: Usage
    """All dev and test trials together."""
    evaluation_seconds: float
    parameters: Mapping[str, Any]
    steps: tuple[StepCost, ...]
    """What the named parts of one request take, in the order they are met; empty where it has none."""
    retrieval: RetrievalQuality | None
    """How well it found the gold documents; None without a retrieval or without gold."""
    diagnosis: Diagnosis | None
    """Why it fell short, where that was looked into."""

    @property
    def measured(self) -> Serving:
        """What one request takes: from test trials where there are any, else from dev."""
        return self.test if self.test.n else self.dev


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two candidates on the same samples; `difference` is the mean of a minus b."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    n: int


@dataclass(frozen=True, slots=True)
class Escalation:
    """Why fine-tuning was or was not tried, and what came of it."""

    decision: Literal["tuned", "stopped", "failed", "not_allowed", "not_reached"]
    """stopped: the pilot's forecast advised against the full training."""
    reason: str
    tuned: Mapping[str, Any] | None = None
    """Facts of the training: model, recipe, losses, seconds, dollars."""
    pilot: Pilot | None = None
    """None where there was nothing to forecast from."""
    probes: tuple[Forgetting, ...] = ()
    """What the model lost of its general knowledge, one entry a probe; empty without a tuned model."""
    worth: Worth | None = None
    """What the training was expected to be worth, where it had to pay."""
    parity: Parity | None = None
    """Whether the tuned model answers alike in every form; None without one, or where it has one form."""
    gain: Gain | None = None
    """What the training won on the task; None without a tuned model or an untrained one beside it."""
    candidate: str | None = None
    """Id of the candidate that was to be tuned; None where none was tried."""
    former: Succession | None = None
    """How it compares with the tuned model of a former run that it goes on from; None where there is none."""
    mistakes: Mistakes | None = None
    """Where the tuned model still goes wrong, and what to add to its data; None where nobody looked."""


def leading(tunings: Sequence[Escalation], pick: str | None) -> Escalation | None:
    """The training that a report is about: the pick's, else the best on dev of those that came off, else the last."""
    if not tunings:
        return None
    came_off = [one for one in tunings if one.tuned is not None]
    best = max(came_off, key=lambda one: (one.tuned or {}).get("dev_score") or 0.0, default=tunings[-1])
    return next((one for one in tunings if one.candidate == pick), best)


@dataclass(frozen=True, slots=True)
class Spent:
    """What this run cost; answers from the cache cost nothing again."""

    usd: float | None
    seconds: float
    """Wall-clock."""
    requests: int
    cached_requests: int
    unsettled_usd: float = 0.0
    """The part of `usd` that may have been billed and is not known to be: calls that a kill of the process cut off, and
    batches that went on when the run ended."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All findings of a run."""

    kind: RunKind
    verdict: Verdict
    pick: str | None
    rows: tuple[Row, ...]
    """In climbing order: cheapest first, tuned last."""
    chosen: tuple[Chosen, ...]
    """The techniques that were tried, and why."""
    left_out: tuple[LeftOut, ...]
    comparisons: tuple[Comparison, ...]
    dominated_by: Mapping[str, tuple[str, ...]]
    """Candidate -> those proved to score better at no higher cost and no more seconds; from compare."""
    may_be_best: tuple[str, ...]
    """Candidates not ruled out as the highest score; from compare."""
    escalation: Escalation | None
    ledger: tuple[Mapping[str, Any], ...]
    """How the error probability was spent."""
    spent: Spent
    outlook: Outlook | None = None
    """What would settle an undecided climb."""
    tunings: tuple[Escalation, ...] = ()
    """How every candidate that was to be tuned went, in the order they were tried."""
    teachings: Mapping[str, Teaching] = field(default_factory=dict)
    """Candidate -> what a teacher taught it, of those that have one."""
    judge_check: JudgeCheck | None = None
    """The judge behind the scores, where there is one."""
    undiagnosed: str | None = None
    """Why some candidates that fell short were not looked into."""
    stopped: str | None = None
    """Why the run ended early (budget), or None."""
    notes: tuple[str, ...] = ()
    """What the models' backends say that a reader of the figures should know."""

    @property
    def pareto(self) -> tuple[str, ...]:
        """Candidates that no other is proved to dominate."""
        return tuple(name for name, better in self.dominated_by.items() if not better)

    def row(self, candidate: str) -> Row:
        """The row of a candidate."""
        return next(row for row in self.rows if row.id == candidate)
