"""`advisor compare`: every candidate on all test samples, judged once at the end, then every pair, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from advisor.candidates import Candidate
from advisor.driver import by_cost, in_turn, prepare_or_note
from advisor.events import Stands
from advisor.findings import Findings, outcome
from advisor.goal import Goal
from advisor.measure import Serving, serving
from advisor.outcome import Comparison, Escalation, Outcome, leading
from advisor.session import Prepared, Session
from advisor.shortfalls import explain
from advisor.standing import ArmStatus, Standing, Verdict
from advisor.tuning.pilot import Pilot
from advisor.tuning.training import aftermath, train
from backends.errors import BudgetError, InputError
from backends.wording import counted
from evals.statistics import multiple
from evals.statistics.dominance import Profile, dominators
from evals.statistics.fixed import FixedTest, fixed_test
from evals.statistics.types import FloatArray
from evals.trial import Trial

_BETA = 0.05
_ASKED_FOR = "Fine-tuning was asked for."
_WORDS: Mapping[ArmStatus, str] = {
    "eliminated": "its score is proved to stay below target plus margin.",
    "unresolved": "these samples do not tell it from the target.",
    "failed": "more of its trials failed than the goal allows.",
}


@dataclass(frozen=True)
class FixedJudge:
    """Where candidates stand after all samples: the fixed-sample counterpart of the ladder."""

    standings: Mapping[str, Standing]
    """In order of cost."""
    ledger: tuple[dict[str, Any], ...]

    def standing(self, candidate: str) -> Standing:
        """Where one candidate stands."""
        return self.standings[candidate]

    def outlook(self) -> None:
        """Left to the ladder, which knows what a new climb would take."""

    @property
    def picked(self) -> str | None:
        """The cheapest certified candidate."""
        return next((name for name, one in self.standings.items() if one.status == "certified"), None)

    @property
    def verdict(self) -> Verdict:
        """`escalate` only when every candidate is proved short or failed too often."""
        if self.picked is not None:
            return "pick"
        short = all(one.status in {"eliminated", "failed"} for one in self.standings.values())
        return "escalate" if short and self.standings else "inconclusive"


async def compare_all(session: Session, findings: Findings) -> Outcome:
    """Run all candidates on all test samples and compare them."""
    candidates = [*findings.lineup.prompting]
    if session.scenario.fine_tune.when == "always" or _named(session, "fine_tune"):
        candidates += findings.lineup.tuning
    trials: dict[str, list[list[Trial]]] = {}
    try:
        for tunes in (False, True):
            chosen = [candidate for candidate in candidates if candidate.technique.tunes is tunes]
            works = [_evaluate(session, findings, candidate, trials, len(candidates)) for candidate in chosen]
            await in_turn(works, side_by_side=session.batches and not tunes)
    except BudgetError as error:
        findings.stopped = str(error)
    findings.prepared = {one.candidate.id: one for one in by_cost(list(findings.prepared.values()))}
    ordered = {name: trials[name] for name in findings.prepared if name in trials}
    alpha = session.scenario.goal.alpha / max(1, len(candidates))
    findings.judge = FixedJudge(
        {name: _judged(session, found, len(candidates)) for name, found in ordered.items()},
        tuple({"test": name, "alpha": alpha, "spent": True} for name in ordered),
    )
    findings.escalation = leading(findings.tunings, findings.judge.picked)
    await explain(session, findings)
    scores = {name: _scores(found) for name, found in ordered.items()}
    groups = [sample.group for sample in session.order]
    return outcome(
        session,
        session.kind,
        findings,
        _pairs(scores, groups, session.seed),
        _dominated({name: serving(_flat(found)) for name, found in ordered.items()}, scores, groups, session),
        multiple.may_be_best(scores, seed=session.seed, alpha=session.scenario.goal.alpha, groups=groups),
    )


async def _evaluate(
    session: Session, findings: Findings, candidate: Candidate, trials: dict[str, list[list[Trial]]], family: int
) -> None:
    """Fit one candidate and run it on all samples; one that trains is looked into afterwards."""
    piloted: Pilot | None = None
    if candidate.technique.tunes:
        trained = await _train(session, findings, candidate)
        if isinstance(trained, Escalation):
            findings.tunings.append(trained)
            return
        prepared, piloted = trained
    else:
        found = await prepare_or_note(session, candidate, findings.failed)
        if found is None:
            return
        prepared = findings.prepared[candidate.id] = found
    trials[candidate.id] = await _repeats(session, prepared)
    session.observe(Stands(candidate.id, _judged(session, trials[candidate.id], family)))
    if candidate.technique.tunes:
        findings.tunings.append(await aftermath(session, findings, prepared, piloted, _ASKED_FOR))


async def _train(
    session: Session, findings: Findings, candidate: Candidate
) -> tuple[Prepared, Pilot | None] | Escalation:
    """Train; one of several that cannot be taught, by its data or its recipe, does not stop the others."""
    try:
        return await train(session, findings, candidate, _ASKED_FOR)
    except InputError as error:
        if len(findings.lineup.tuning) == 1:
            raise
        findings.failed[candidate.id] = str(error)
        return Escalation("failed", f"{_ASKED_FOR} Training failed: {error}", candidate=candidate.id)


async def _repeats(session: Session, prepared: Prepared) -> list[list[Trial]]:
    """Trials of every repetition; the first are those that `run` would have made too."""
    found: dict[int, list[Trial]] = {}

    async def repeat(number: int) -> None:
        variant = f"repeat {number}" if number else ""
        found[number] = await session.test(prepared, session.order, variant=variant, repeat=number)

    await in_turn([repeat(number) for number in range(session.repeats)], side_by_side=session.batches)
    return [found[number] for number in range(session.repeats)]


def _flat(repeats: Sequence[Sequence[Trial]]) -> list[Trial]:
    return [trial for trials in repeats for trial in trials]


def _named(session: Session, technique: str) -> bool:
    return any(spec.name == technique for spec in session.scenario.techniques or ())


def _scores(repeats: Sequence[Sequence[Trial]]) -> FloatArray:
    """One observation per sample, the mean over its repeats that did not fail; NaN where all failed."""
    table = np.array([[np.nan if t.score is None else t.score.value for t in trials] for trials in repeats])
    answered = (~np.isnan(table)).sum(axis=0)
    means: FloatArray = np.nansum(table, axis=0) / np.where(answered == 0, np.nan, answered)
    return means


def _judged(session: Session, repeats: Sequence[Sequence[Trial]], family: int) -> Standing:
    goal, scores = session.scenario.goal, _scores(repeats)
    test = fixed_test(
        scores,
        goal.target,
        goal.margin,
        goal.alpha / family,
        _BETA,
        binary=session.scenario.scorer.binary and len(repeats) == 1,
        groups=[sample.group for sample in session.order],
    )
    measured = serving(_flat(repeats))
    status, reason = _status(goal, measured, test, len(scores))
    return Standing(
        arm=repeats[0][0].candidate,
        status=status,
        n=measured.n,
        errors=measured.errors,
        mean=measured.score,
        interval=test.interval,
        at_least=test.at_least if status == "certified" else None,
        samples_needed=None,
        shortfall=None,
        reason=reason,
    )


def _status(goal: Goal, measured: Serving, test: FixedTest, n: int) -> tuple[ArmStatus, str]:
    """Quality first, then the limits, taken as measured."""
    if measured.errors > goal.max_error_rate * measured.n:
        return "failed", _WORDS["failed"]
    status: ArmStatus = "certified" if test.certified else "eliminated" if test.eliminated else "unresolved"
    for limit, figure, name in (
        (goal.max_p95_seconds, measured.p95_seconds, "p95 seconds"),
        (goal.max_usd_per_1k_requests, measured.usd_per_1k_requests, "dollars per 1,000 requests"),
    ):
        if limit is not None and status == "certified" and (figure is None or figure > limit):
            return "eliminated", f"its score suffices, but its {name} are {_shown(figure)}, above {limit:g}."
    if status == "certified":
        proved = f"proved on {counted(n, 'sample')} (target {goal.target:g})"
        return status, f"scores at least {test.at_least:.3f}, {proved}."
    return status, _WORDS[status]


def _shown(figure: float | None) -> str:
    return "unknown" if figure is None else f"{figure:.3g}"


def _pairs(scores: Mapping[str, FloatArray], groups: Sequence[str | None], seed: int) -> list[Comparison]:
    return [
        Comparison(
            a=pair.a,
            b=pair.b,
            difference=pair.paired.difference,
            low=pair.paired.low,
            high=pair.paired.high,
            p_value=pair.paired.p_value,
            p_holm=pair.p_holm,
            n=pair.paired.n,
        )
        for pair in multiple.compare_all(scores, seed=seed, groups=groups)
    ]


def _dominated(
    measured: Mapping[str, Serving], scores: Mapping[str, FloatArray], groups: Sequence[str | None], session: Session
) -> dict[str, tuple[str, ...]]:
    """Who is proved to be dominated by whom."""
    profiles = [Profile(name, scores[name], one.usd_per_1k_requests, one.p95_seconds) for name, one in measured.items()]
    return dominators(profiles, seed=session.seed, alpha=session.scenario.goal.alpha, groups=groups)
