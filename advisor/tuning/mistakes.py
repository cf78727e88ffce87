"""Where a tuned model still goes wrong, and what to add to its train samples: the step back to the data.

Mistakes are looked for on dev samples alone. Advice that came from test samples would shape the training data after
the test, which would then prove nothing; of test there are only counts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from advisor.diagnosis.case import threshold
from advisor.diagnosis.facts import answer_set
from advisor.session import Prepared, Session
from advisor.tuning.clusters import FEWEST, Cluster, clusters
from advisor.tuning.confusions import Answered, ClassRecall, Confusion, confusions, weakest
from backends import registry as backends
from backends.errors import InputError, RequestError
from backends.wording import counted
from evals.runner import Work
from evals.splits import shared_order
from evals.task import Sample
from evals.trial import MISTAKES, Trial

MOST_DEV = 200
MOST_TRAIN = 1000
"""Train samples that are embedded: enough to count how many are like a cluster's."""
_LONGEST = 200
"""Characters of a text in an example."""
KEEP_OUT = "Write new inputs, or label new ones; a dev or test sample in train would make its score prove nothing."


@dataclass(frozen=True, slots=True)
class Counts:
    """How the answers of a split turned out."""

    n: int
    wrong: int
    failed: int
    """Without an answer: errors, not mistakes."""


@dataclass(frozen=True, slots=True)
class Mistakes:
    """Wrong answers of a tuned model, grouped."""

    dev: Counts
    test: Counts
    """Counted, and not looked into."""
    right_from: float
    """Score from which an answer counts as right."""
    confusions: tuple[Confusion, ...]
    """Empty where answers are open."""
    classes: tuple[ClassRecall, ...]
    clusters: tuple[Cluster, ...]
    note: str
    """Why there are no clusters; empty where there are."""

    @property
    def advice(self) -> tuple[str, ...]:
        """What to add to the train samples, clusters first."""
        wanted = [one.advice for one in self.clusters if one.add] + [one.advice for one in self.classes]
        return (*wanted, KEEP_OUT) if wanted else ()

    def as_json(self) -> dict[str, Any]:
        """What the report shows."""
        return {
            "found_on": "dev",
            "dev": asdict(self.dev),
            "test": asdict(self.test),
            "right_from": self.right_from,
            "confusions": [asdict(one) for one in self.confusions],
            "classes": [asdict(one) for one in self.classes],
            "clusters": [_shown(one) for one in self.clusters],
            "advice": list(self.advice),
            "note": self.note,
        }


async def mistakes(session: Session, tuned: Prepared, train: Sequence[Sample] | None = None) -> Mistakes | None:
    """Ask up to 200 dev samples and group what is wrong; None where nobody wants failures looked into.

    `train` is what the model was taught where that is not the scenario's train split. Trials are stored. Raises
    BudgetError.
    """
    if not session.diagnoses:
        return None
    scenario = session.scenario
    right_from = threshold(scenario.scorer, scenario.goal)
    dev = await _dev_trials(session, tuned)
    test = session.store.trials(session.run_id, tuned.candidate.id, "test", variant="")
    by_id = {sample.id: sample for sample in scenario.task.dev}
    answered = [
        Answered(by_id[trial.sample_id], trial.output or "", trial.score.value >= right_from)
        for trial in dev
        if trial.score is not None
    ]
    labels = answer_set(scenario.task)
    taught = scenario.task.train if train is None else train
    found, note = await _clusters(session, answered, taught)
    return Mistakes(
        dev=_counts(dev, right_from),
        test=_counts(test, right_from),
        right_from=right_from,
        confusions=confusions(answered, labels) if labels else (),
        classes=weakest(answered, taught, labels) if labels else (),
        clusters=found,
        note=note,
    )


async def _dev_trials(session: Session, tuned: Prepared) -> list[Trial]:
    """Trials on the first dev samples of the shared order: those that were made already, and further ones."""
    done = {trial.sample_id: trial for trial in tuned.dev}
    order = shared_order(session.scenario.task.dev, session.seed)[:MOST_DEV]
    session.check_time()
    work = Work(
        tuned.candidate.id,
        tuned.fitted.solve,
        tuned.chat,
        "dev",
        f"{MISTAKES}dev",
        helpers=session.helpers(tuned.candidate),
    )
    further = await session.runner.run(work, [sample for sample in order if sample.id not in done])
    done |= {trial.sample_id: trial for trial in further}
    return [done[sample.id] for sample in order]


async def _clusters(
    session: Session, answered: Sequence[Answered], taught: Sequence[Sample]
) -> tuple[tuple[Cluster, ...], str]:
    """Groups by meaning, or why there are none."""
    wrong = sum(not one.right for one in answered)
    if wrong < FEWEST:
        seen = f"{counted(wrong, 'wrong answer')} on {counted(len(answered), 'dev sample')}"
        return (), f"{seen}: too few to group; it takes {FEWEST}."
    problem = backends.problem(session.scenario.embedder)
    if problem is not None:
        return (), f"They are not grouped by meaning: {problem}"
    texts = [*(one.sample.input for one in answered), *_drawn(taught, session.seed)]
    try:
        vectors = (await session.embedder().embed(texts)).vectors
    except (InputError, RequestError) as error:
        return (), f"They are not grouped by meaning: {error}"
    own, others = vectors[: len(answered)], vectors[len(answered) :]
    found = clusters(answered, own, others, len(taught))
    return found, "" if found else "No three wrong answers have inputs that are alike."


def _drawn(taught: Sequence[Sample], seed: int) -> list[str]:
    inputs = [sample.input for sample in taught]
    return inputs if len(inputs) <= MOST_TRAIN else random.Random(f"{seed}:mistakes").sample(inputs, MOST_TRAIN)


def _counts(trials: Sequence[Trial], right_from: float) -> Counts:
    wrong = sum(trial.score is not None and trial.score.value < right_from for trial in trials)
    return Counts(len(trials), wrong, sum(trial.score is None for trial in trials))


def _shown(cluster: Cluster) -> dict[str, Any]:
    examples = [
        {
            "sample_id": one.sample.id,
            "input": _cut(one.sample.input),
            "target": _cut(one.sample.target),
            "answer": _cut(one.answer),
        }
        for one in cluster.examples
    ]
    return asdict(cluster) | {"words": list(cluster.words), "name": cluster.name, "examples": examples}


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
