"""Asks why a candidate fell short: ablations on at most 40 of its failures, and one cause for each of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from advisor.diagnosis.ablations import NEIGHBOURS, Ablation, plan
from advisor.diagnosis.case import Case, threshold
from advisor.diagnosis.causes import MEANINGS, PRIORITY, Cause, CauseName, Check, Diagnosis, Example, assign
from advisor.diagnosis.explain import Explanation, explanations
from advisor.diagnosis.failures import Failure, Failures, failures
from advisor.diagnosis.lenient import Reading, lenient
from advisor.events import Diagnosing
from advisor.session import Prepared, Session
from backends.types import Usage
from backends.wording import counted
from evals.scorers.base import ModelScorer
from evals.statistics.display import wilson
from evals.trial import Trial

_EXAMPLES = 3
_LONGEST = 500
"""Characters of a text in an example; reports are read, not searched."""
_OWN_SETTINGS: frozenset[CauseName] = frozenset({"retrieval", "tool_use", "chain"})
"""Causes that can lie in the settings of the technique itself; for others, pointing at what was just tried is idle."""
_FORMAT = "lenient reading"

Asked = dict[str, dict[str, Trial]]
"""Trials by sample id and name of the ablation."""


async def diagnose(session: Session, prepared: Prepared, trials: Sequence[Trial]) -> Diagnosis:
    """Why a candidate failed on the test samples of these trials, other trials left aside.

    Every ablation asks at most 40 samples again; what it takes is stored with its trials and not paid for again on
    resume. Raises BudgetError when the budget ends.
    """
    scenario = session.scenario
    limit = threshold(scenario.scorer, scenario.goal)
    found = failures(trials, scenario.task.test, limit, session.seed)
    case = Case.of(scenario.task, scenario.scorer, scenario.goal, prepared.fitted, found.looked_at)
    readings, check = _read_leniently(case, found.wrong)
    checks = [check]
    asked: Asked = {failure.sample.id: {} for failure in found.wrong}
    for ablation in plan(case, found.wrong, embeds=prepared.candidate.technique.embeds, seed=session.seed):
        checks.append(await _ask(session, prepared, case, ablation, asked))
    explained = [
        explanations(case, failure, asked.get(failure.sample.id, {}), readings.get(failure.sample.id))
        for failure in found.looked_at
    ]
    return Diagnosis(
        causes=_causes(found, explained, prepared),
        checks=tuple(checks),
        usage=sum((one.usage for one in checks), Usage()),
        seconds=sum(one.seconds for one in checks),
        n_failures=found.n,
        n_looked_at=len(found.looked_at),
    )


def _read_leniently(case: Case, wrong: Sequence[Failure]) -> tuple[dict[str, Reading], Check]:
    """Readings by sample id of the answers that are right in another form."""
    if isinstance(case.scorer, ModelScorer):
        return {}, Check(_FORMAT, 0, 0, f"the scorer {case.scorer.name} reads for itself what an answer means")
    found = {}
    for failure in wrong:
        reading = lenient(failure.trial.output or "", failure.sample, case.scorer, case.answers, case.threshold)
        if reading is not None:
            found[failure.sample.id] = reading
    return found, Check(_FORMAT, len(wrong), len(found))


async def _ask(session: Session, prepared: Prepared, case: Case, ablation: Ablation, asked: Asked) -> Check:
    """Run one ablation; `asked` takes its trials up."""
    if not ablation.samples:
        return Check(ablation.name, 0, 0, ablation.note)
    session.observe(Diagnosing(prepared.candidate.id, ablation.name, len(ablation.samples)))
    trials = await session.ablate(prepared, ablation.name, ablation.solve, ablation.samples, rewrite=ablation.rewrite)
    for trial in trials:
        asked[trial.sample_id][ablation.name] = trial
    cured, note = _outcome(case, ablation, trials)
    usage = sum((trial.usage + trial.scoring for trial in trials), Usage())
    return Check(ablation.name, len(trials), cured, note, usage, sum(trial.seconds for trial in trials))


def _outcome(case: Case, ablation: Ablation, trials: Sequence[Trial]) -> tuple[int, str]:
    """How many failures became right, and what else there is to say."""
    if ablation.name == NEIGHBOURS:
        # They cure nothing: a right answer of theirs says that train and test agree.
        return 0, f"near-identical train samples carry another target for {sum(map(case.wrong, trials))} of them"
    failed = sum(trial.error is not None for trial in trials)
    return sum(map(case.right, trials)), f"{failed} of them ended with an error and explain nothing" if failed else ""


def _causes(found: Failures, explained: Sequence[Sequence[Explanation]], prepared: Prepared) -> tuple[Cause, ...]:
    assigned = assign([{one.cause for one in several} for several in explained])
    counts = Counter(assigned)
    order = sorted(counts, key=lambda cause: (-counts[cause], PRIORITY.index(cause)))
    return tuple(_cause(cause, found, assigned, explained, prepared) for cause in order)


def _cause(
    cause: CauseName,
    found: Failures,
    assigned: Sequence[CauseName],
    explained: Sequence[Sequence[Explanation]],
    prepared: Prepared,
) -> Cause:
    meaning = MEANINGS[cause]
    all_of_it = [[one for one in several if one.cause == cause] for several in explained]
    own = [position for position, given in enumerate(assigned) if given == cause]
    interval = wilson(len(own), len(assigned))
    return Cause(
        cause=cause,
        share=interval.value,
        low=interval.low,
        high=interval.high,
        n=len(assigned),
        evidence=_evidence(cause, found, len(own), all_of_it, own),
        examples=tuple(_example(found.looked_at[position], all_of_it[position]) for position in own[:_EXAMPLES]),
        sample_ids=tuple(found.looked_at[position].sample.id for position in own),
        points_to=_useful(cause, meaning.points_to, prepared),
        cannot_help=meaning.cannot_help,
        advice=meaning.advice,
    )


def _useful(cause: CauseName, names: Sequence[str], prepared: Prepared) -> tuple[str, ...]:
    technique = prepared.candidate.technique
    if cause in _OWN_SETTINGS:
        return tuple(names)
    return tuple(name for name in names if name != technique.name)


def _evidence(
    cause: CauseName,
    found: Failures,
    count: int,
    all_of_it: Sequence[Sequence[Explanation]],
    own: Sequence[int],
) -> str:
    looked = len(found.looked_at)
    of = counted(looked, "failure") + ("" if looked == found.n else f" drawn at random from {found.n}")
    text = f"{count} of {of} {MEANINGS[cause].shown_by}"
    ways = Counter(all_of_it[position][0].how for position in own if all_of_it[position])
    named = [f"{number} {how}" for how, number in sorted(ways.items(), key=lambda way: (-way[1], way[0])) if how]
    if named:
        text += f" ({', '.join(named)})"
    more = sum(bool(one) for one in all_of_it) - count
    if more > 0:
        text += f"; so {'does' if more == 1 else 'do'} {more} more, counted under an earlier cause"
    return text + "."


def _example(failure: Failure, explained: Sequence[Explanation]) -> Example:
    return Example(
        sample_id=failure.sample.id,
        input=_cut(failure.sample.input),
        target=_cut(failure.sample.target),
        answer=None if failure.trial.output is None else _cut(failure.trial.output),
        gave=_cut(explained[0].gave) if explained else "",
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
