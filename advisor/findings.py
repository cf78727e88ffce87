"""Turns what a sitting did into an Outcome: rows, comparisons, spending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from advisor.candidates import NOT_ASKED_FOR, NOT_NAMED, NOT_NEEDED_TO_TUNE, Candidate, LeftOut, Lineup
from advisor.diagnosis.causes import Diagnosis
from advisor.fitting import FitCost
from advisor.judging import JudgeCheck
from advisor.measure import serving, step_costs
from advisor.outcome import CandidateStatus, Comparison, Escalation, Outcome, Row, Spent
from advisor.retrieval.metrics import retrieval_quality
from advisor.session import Prepared, Session
from advisor.standing import Outlook, Standing, Verdict
from advisor.tuning.teaching import Teaching
from backends.types import Usage, add_known
from evals.statistics.display import score_interval
from evals.statistics.reliability import pass_hat
from evals.statistics.types import Interval
from evals.store import RunKind
from evals.trial import ASIDE, FITTING, Trial


class Judge(Protocol):
    """Who says where candidates stand: the ladder, or compare's test after all samples."""

    def standing(self, candidate: str, /) -> Standing:
        """Where one candidate stands."""

    @property
    def picked(self) -> str | None:
        """The candidate to use."""

    @property
    def verdict(self) -> Verdict | None:
        """What the standings mean together; None while the climb goes on."""

    def outlook(self) -> Outlook | None:
        """What would settle it, when the verdict is inconclusive."""

    @property
    def ledger(self) -> tuple[dict[str, Any], ...]:
        """How alpha was spent."""


FRESH = "fresh"
"""Variant of the trials of a pick on samples that had no part in picking it."""


_ERRORS_SHOWN = 3


@dataclass
class Findings:
    """What is known so far; survives a budget that ends in the middle."""

    lineup: Lineup
    prepared: dict[str, Prepared] = field(default_factory=dict)
    """In climbing order once the ladder stands."""
    failed: dict[str, str] = field(default_factory=dict)
    judge: Judge | None = None
    """The ladder of a run, or the judge of a comparison; None until one stands."""
    escalation: Escalation | None = None
    tunings: list[Escalation] = field(default_factory=list)
    """How every candidate that was to be tuned went; `escalation` is one of them, where there is any."""
    stopped_by_pilot: dict[str, str] = field(default_factory=dict)
    """Tuned candidates whose full training the forecast advised against, and what it said."""
    pilot_costs: dict[str, FitCost] = field(default_factory=dict)
    """What their pilots took, and what they would have learnt from."""
    teachings: dict[str, Teaching] = field(default_factory=dict)
    """Tuned candidates that learn from a teacher, and what it taught them."""
    diagnoses: dict[str, Diagnosis] = field(default_factory=dict)
    """Of candidates that fell short."""
    judge_check: JudgeCheck | None = None
    """The judge behind the scores, where there is one."""
    undiagnosed: str | None = None
    """Why some that fell short were not looked into."""
    stopped: str | None = None


def outcome(
    session: Session,
    kind: RunKind,
    findings: Findings,
    comparisons: Sequence[Comparison] = (),
    dominated_by: Mapping[str, tuple[str, ...]] | None = None,
    may_be_best: Sequence[str] = (),
) -> Outcome:
    """The facts of a run, from its findings and the store."""
    judge = findings.judge
    trials = session.store.trials(session.run_id)
    order = [*findings.prepared, *(c.id for c in _candidates(findings.lineup) if c.id not in findings.prepared)]
    by_id = {candidate.id: candidate for candidate in _candidates(findings.lineup)}
    return Outcome(
        kind=kind,
        verdict=(judge.verdict if judge else None) or "inconclusive",
        pick=None if judge is None else judge.picked,
        rows=tuple(
            _row(by_id[one], session, findings, [trial for trial in trials if trial.candidate == one]) for one in order
        ),
        chosen=findings.lineup.chosen,
        left_out=_left_out(session, findings),
        comparisons=tuple(comparisons),
        dominated_by=dominated_by or {},
        may_be_best=tuple(may_be_best),
        escalation=findings.escalation,
        ledger=() if judge is None else judge.ledger,
        spent=_spent(session, findings, trials),
        outlook=None if judge is None else judge.outlook(),
        tunings=tuple(findings.tunings),
        teachings=findings.teachings,
        judge_check=findings.judge_check,
        undiagnosed=findings.undiagnosed,
        stopped=findings.stopped,
        notes=session.notes,
    )


def _left_out(session: Session, findings: Findings) -> tuple[LeftOut, ...]:
    """Why techniques were not tried; those that nobody named, by who chose the others."""
    reason = NOT_NEEDED_TO_TUNE if session.kind == "tune" else NOT_ASKED_FOR if session.narrowed else NOT_NAMED
    return tuple(replace(one, reason=reason) if one.reason == NOT_NAMED else one for one in findings.lineup.left_out)


def _candidates(lineup: Lineup) -> tuple[Candidate, ...]:
    return (*lineup.prompting, *lineup.tuning)


def _row(candidate: Candidate, session: Session, findings: Findings, trials: Sequence[Trial]) -> Row:
    prepared = findings.prepared.get(candidate.id)
    cost = prepared.cost if prepared else findings.pilot_costs.get(candidate.id, FitCost(Usage(), 0.0))
    status, reason, standing = _status(candidate, findings)
    trials = [trial for trial in trials if not trial.variant.startswith(FITTING)]
    tested = [trial for trial in trials if trial.split == "test" and not trial.variant.startswith(ASIDE)]
    test = serving([trial for trial in tested if trial.variant != FRESH])
    return Row(
        id=candidate.id,
        technique=candidate.technique.name,
        model=candidate.model,
        tuned=candidate.technique.tunes,
        status=status,
        reason=reason,
        samples=sum(trial.variant == "" for trial in tested),
        errors=_unanswered(tested),
        error_texts=_error_texts(tested),
        interval=standing.interval if standing is not None and test.score is not None else None,
        at_least=None if standing is None else standing.at_least,
        fresh=_fresh(tested, session),
        pass_hat=_pass_hat(tested, session),
        test=test,
        dev=serving([trial for trial in trials if trial.split == "dev" and not trial.variant]),
        fit=cost.usage,
        fit_seconds=cost.seconds,
        evaluation=sum((trial.usage + trial.scoring for trial in trials), Usage()),
        evaluation_seconds=sum(trial.seconds for trial in trials),
        parameters=prepared.fitted.parameters if prepared else {},
        steps=step_costs(tested),
        retrieval=retrieval_quality(tested, session.order),
        diagnosis=findings.diagnoses.get(candidate.id),
    )


def _fresh(tested: Sequence[Trial], session: Session) -> Interval | None:
    found = [trial for trial in tested if trial.variant == FRESH and trial.score is not None]
    scores = np.array([trial.score.value for trial in found if trial.score is not None])
    group_of = {sample.id: sample.group for sample in session.order}
    groups = [group_of[trial.sample_id] for trial in found]
    return score_interval(scores, session.scenario.goal.confidence, seed=session.seed, groups=groups)


def _unanswered(tested: Sequence[Trial]) -> int:
    """Samples on which every trial that counts failed."""
    counted = [trial for trial in tested if trial.variant != FRESH]
    answered = {trial.sample_id for trial in counted if trial.error is None}
    return len({trial.sample_id for trial in counted} - answered)


def _error_texts(tested: Sequence[Trial]) -> tuple[tuple[str, int], ...]:
    """The commonest errors and how often each occurred."""
    return tuple(Counter(trial.error for trial in tested if trial.error is not None).most_common(_ERRORS_SHOWN))


def _pass_hat(tested: Sequence[Trial], session: Session) -> dict[int, float] | None:
    """pass^k over the samples that were repeated without an error."""
    repeats = session.repeats
    if repeats == 1 or not session.scenario.scorer.binary:
        return None
    by_sample: dict[str, list[float]] = {}
    for trial in tested:
        if trial.score is not None:
            by_sample.setdefault(trial.sample_id, []).append(trial.score.value)
    successes = np.array([int(sum(scores)) for scores in by_sample.values() if len(scores) == repeats], dtype=np.int64)
    if not successes.size:
        return None
    return {k: float(pass_hat(successes, repeats, k).mean()) for k in range(1, repeats + 1)}


def _status(candidate: Candidate, findings: Findings) -> tuple[CandidateStatus, str, Standing | None]:
    if candidate.id in findings.failed:
        return "failed", findings.failed[candidate.id], None
    if candidate.id in findings.stopped_by_pilot:
        return "skipped", findings.stopped_by_pilot[candidate.id], None
    why = findings.stopped or "the budget ended."
    if candidate.id not in findings.prepared or findings.judge is None:
        if findings.stopped is not None:
            return "skipped", f"it was not tested: {why}", None
        if candidate.technique.tunes and findings.escalation is None:
            return "skipped", "compare trains a model only when fine_tune is among the techniques named.", None
        return "not_needed", "the climb ended before it was reached.", None
    try:
        standing = findings.judge.standing(candidate.id)
    except KeyError:
        return "skipped", f"it was not tested on all samples: {why}", None
    if standing.status in {"waiting", "running"}:
        return ("unresolved" if standing.n else "skipped"), f"it was not decided: {why}", standing
    return standing.status, standing.reason, standing  # type: ignore[return-value]


def _spent(session: Session, findings: Findings, trials: Sequence[Trial]) -> Spent:
    """What was asked of models in this run, cached answers apart, and training that was not found done."""
    asked = session.store.asked(session.run_id)
    return Spent(
        usd=add_known(add_known(asked.cost_usd, session.store.trained_usd(session.run_id)), session.unsettled_usd),
        seconds=session.total_seconds,
        requests=asked.requests,
        cached_requests=sum(trial.cached_requests for trial in trials if not trial.variant.startswith(FITTING))
        + sum(prepared.cost.cached_requests for prepared in findings.prepared.values())
        + sum(cost.cached_requests for name, cost in findings.pilot_costs.items() if name not in findings.prepared)
        + _judge_reused(findings),
        unsettled_usd=session.unsettled_usd,
    )


def _judge_reused(findings: Findings) -> int:
    check = findings.judge_check
    return 0 if check is None or check.calibration is None else check.calibration.cached_requests
