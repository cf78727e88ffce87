"""Paid probes: a few dev samples a candidate, asked as a run would ask them, correct what had been assumed.

They go through the run's own path: reserved within the budget, stored, and not paid for again by a run that asks the
same. Test samples are never probed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from advisor.candidates import Candidate, Lineup
from advisor.estimating.climbing import Belief
from advisor.estimating.counting import Correction, Counter
from advisor.estimating.demand import Demand
from advisor.estimating.estimate import Probed
from advisor.estimating.gauges import Gauges
from advisor.events import Observer
from advisor.fitting import fit
from advisor.scenario.model import Overrides, Scenario
from advisor.session import Session
from advisor.span import Span
from advisor.techniques.forecast import Prospect, Way
from advisor.workspace import Workspace, new_run_id
from backends.errors import RequestError
from backends.types import Usage
from evals.cache import store_path
from evals.runner import Work
from evals.splits import shared_order
from evals.store import RunRow, RunStatus, Store
from evals.task import Sample
from evals.trial import FITTING, Trial

_LEAST = 0.05
"""Of a ratio: the next samples are not the probed ones."""
_ALONE = 0.4
"""How far one probe alone can be off."""
_ERRORS = 2.0
"""Standard errors of a ratio that its ends lie apart from it."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What probing gave and cost."""

    found: Mapping[str, Probed]
    """By candidate; those that gave nothing to go by are left out."""
    usd: float | None


async def probe(
    scenario: Scenario, lineup: Lineup, overrides: Overrides, workspace: Workspace, count: int, observe: Observer
) -> Probes:
    """Ask every candidate that trains nothing about `count` dev samples. Raises AdvisorError; what was paid is kept."""
    with workspace.locked(), Store.open(store_path(workspace.root)) as store:
        row = _begun(scenario, overrides, store, workspace, count)
        session = Session(scenario, store, workspace, row.id, observe)
        status: RunStatus = "failed"
        try:
            async with session:
                prober = _Prober(session, count)
                found = {one.id: told for one in lineup.prompting if (told := await prober.told(one)) is not None}
            status = "done"
        finally:
            store.spend_seconds(row.id, session.total_seconds)
            store.finish_run(row.id, status, None, None)
        return Probes(found, store.asked(row.id).cost_usd)


def _begun(scenario: Scenario, overrides: Overrides, store: Store, workspace: Workspace, count: int) -> RunRow:
    row = RunRow(
        id=new_run_id(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        kind="probe",
        scenario=scenario.name,
        scenario_file=str(scenario.file.resolve()),
        scenario_hash=scenario.hash,
        options=asdict(overrides) | {"seed": scenario.seed, "probes": count},
    )
    store.add_run(row)
    workspace.freeze(row.id, scenario.files)
    return row


@dataclass(frozen=True, slots=True)
class _Pair:
    """One probe: what was expected of it and what it took."""

    expected: Demand
    took: Usage


class _Prober:
    def __init__(self, session: Session, count: int) -> None:
        self._session = session
        scenario = session.scenario
        # The first that a run asks, too: by them it chooses settings, and with them it orders candidates.
        self._samples = shared_order(scenario.task.dev, scenario.seed)[:count]
        self._counter = Counter(scenario.task, Gauges(scenario))

    async def told(self, candidate: Candidate) -> Probed | None:
        """What the probes of one candidate tell; each of its settings is asked about some of the samples."""
        scenario = self._session.scenario
        prospect = Prospect(scenario.seed, self._counter.gauges[candidate.model].native_tools)
        plan = candidate.technique.forecast(scenario.task, prospect)
        ways = [way for way in plan.ways if way.settled is not None] if plan is not None else []
        trials: list[Trial] = []
        pairs: list[_Pair] = []
        for number, way in enumerate(ways):
            samples = self._samples[number :: len(ways)]
            asked = await self._asked(candidate, way, samples)
            trials += asked
            pairs += [self._pair(candidate, way, *one) for one in zip(samples, asked, strict=False)]
        return _told(trials, pairs, Belief(scenario.goal.target, scenario.scorer.binary))

    async def _asked(self, candidate: Candidate, way: Way, samples: Sequence[Sample]) -> list[Trial]:
        if not samples or way.settled is None:
            return []
        session = self._session
        settled = replace(candidate, technique=way.settled)
        try:
            fitted = (await fit(session, settled, session.scenario.task)).fitted
        except RequestError:  # a run would note it, too, and go on
            return []
        helpers = session.helpers(settled)
        chat = session.chat(candidate.model)
        work = Work(candidate.id, fitted.solve, chat, "dev", f"{FITTING}probe {way.name}", helpers=helpers)
        return await session.runner.run(work, samples)

    def _pair(self, candidate: Candidate, way: Way, sample: Sample, trial: Trial) -> _Pair:
        counted = self._counter.per_sample(way, [sample], candidate)
        return _Pair(sum(counted.values(), Demand()), trial.usage)


def _told(trials: Sequence[Trial], pairs: Sequence[_Pair], before: Belief) -> Probed | None:
    kept = [pair for pair, trial in zip(pairs, trials, strict=True) if trial.error is None]
    if not kept:
        return None
    scores = [trial.score.value for trial in trials if trial.score is not None]
    correction = Correction(
        _ratio([(pair.took.requests, pair.expected.requests.expected) for pair in kept]),
        _ratio([(pair.took.input_tokens, pair.expected.input_tokens.expected) for pair in kept]),
        _ratio([(pair.took.output_tokens, pair.expected.output_tokens.expected) for pair in kept]),
    )
    mean = sum(scores) / len(scores) if scores else 0.0
    return Probed(correction, replace(before, mean=mean, n=len(scores)))


def _ratio(pairs: Sequence[tuple[float, float]]) -> Span:
    """What was taken over what was expected, with its ends (ratio estimator: Cochran 1977, section 6.4)."""
    took, expected = (sum(column) for column in zip(*pairs, strict=True))
    if not expected:
        return Span(1.0, 1.0, 1.0)
    ratio, n = took / expected, len(pairs)
    if n == 1:
        return Span(ratio * (1 - _ALONE), ratio, ratio * (1 + _ALONE))
    squares = sum((one - ratio * other) ** 2 for one, other in pairs)
    error = math.sqrt(squares * n / (n - 1)) / expected
    half = max(_LEAST * ratio, _ERRORS * error)
    return Span(max(0.0, ratio - half), ratio, ratio + half)
