"""The best of a few options on dev, by successive halving: all on a few samples, the better half on more.

Successive halving: Karnin, Koren and Somekh 2013, "Almost optimal exploration in multi-armed bandits", here with two
rounds. Every option of a round is tried on the same samples, so their scores are paired.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from advisor.techniques.base import FitContext
from advisor.techniques.forecast import Round, Way
from evals.runner import Solve
from evals.splits import shared_order
from evals.task import Sample
from evals.trial import Trial

Option = TypeVar("Option", bound=str)

_ROUNDS = (12, 36)
"""Dev samples that an option has been tried on after each round."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What one option did on dev."""

    option: str
    n: int
    """Dev samples it was tried on, errors included."""
    errors: int
    score: float | None
    """Mean over the samples without an error; None when there is none."""
    tokens: float | None
    """Mean input and output tokens of a request to answer one sample, over the samples without an error."""


async def best_on_dev(
    options: Mapping[Option, Solve], context: FitContext, dev: Sequence[Sample]
) -> tuple[Option, tuple[Tried, ...]]:
    """Try the options on at most 36 dev samples; returns the winner's name and a row for every option, in order.

    Nothing is asked, and no row returned, when there is one option or no dev sample; the first option wins then.
    Names must be unique within one technique: an option that was tried under a name is not tried again.
    """
    running = list(options)
    if len(running) < 2 or not dev:
        return running[0], ()
    # The order in which the fitted candidate will be run on dev: what the winner answered here need not be asked again.
    drawn = shared_order(dev, context.seed)[: _ROUNDS[-1]]
    trials: dict[Option, list[Trial]] = {option: [] for option in options}
    for samples, last in _rounds(drawn):
        for number, option in enumerate(running):
            context.note("options tried on dev", number, len(running))
            trials[option] += await context.trials(option, options[option], samples)
        ranking = best_first([summary(option, trials[option]) for option in running])
        running.sort(key=lambda option: ranking.index(option))
        running = running[:1] if last else running[: survivors(len(running))]
    return running[0], tuple(summary(option, found) for option, found in trials.items())


def rounds_ahead(ways: Sequence[Way], dev: Sequence[Sample], seed: int) -> tuple[Round, ...]:
    """What `best_on_dev` is going to try: the later the round, the fewer options."""
    if len(ways) < 2 or not dev:
        return ()
    found = []
    tried = len(ways)
    for samples, _ in _rounds(shared_order(dev, seed)[: _ROUNDS[-1]]):
        found.append(Round(tuple(ways), tuple(samples), tried))
        tried = survivors(tried)
    return tuple(found)


def shuffled(samples: Sequence[Sample], seed: int, purpose: str) -> list[Sample]:
    """The samples in an order that is random but fixed by seed and purpose."""
    return random.Random(f"{seed}:{purpose}").sample(list(samples), len(samples))


def survivors(options: int) -> int:
    """How many options go on to the next round: the better half, but never one alone, which would be no comparison."""
    return min(options, max(2, (options + 1) // 2))


def best_first(tried: Sequence[Tried]) -> list[str]:
    """The options from best to worst.

    Those with fewer errors come first, then those with the higher score; ties go to the cheaper and then to the
    earlier one.
    """
    return [row.option for row in sorted(tried, key=_rank)]


def summary(option: str, trials: Sequence[Trial]) -> Tried:
    """What an option's trials say."""
    scored = [(trial, trial.score.value) for trial in trials if trial.score is not None]
    tokens = [trial.usage.input_tokens + trial.usage.output_tokens for trial, _ in scored]
    return Tried(
        option,
        n=len(trials),
        errors=len(trials) - len(scored),
        score=_mean([value for _, value in scored]),
        tokens=_mean(tokens),
    )


def as_rows(tried: Iterable[Tried]) -> list[dict[str, Any]]:
    """JSON-ready form, for parameters and for saving; `from_rows` reads it."""
    return [asdict(row) for row in tried]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[Tried, ...]:
    """Read what as_rows gave."""
    return tuple(Tried(**row) for row in rows)


def _rounds(drawn: Sequence[Sample]) -> list[tuple[Sequence[Sample], bool]]:
    """The samples that each round adds, and whether it is the last."""
    ends = [end for end in _ROUNDS if end < len(drawn)] + [len(drawn)]
    starts = [0, *ends[:-1]]
    return [(drawn[start:end], end == len(drawn)) for start, end in zip(starts, ends, strict=True)]


def _rank(tried: Tried) -> tuple[int, float, float]:
    """Smaller is better; sorting is stable, so that equal options keep their order."""
    no_tokens = float("inf")
    return tried.errors, -(tried.score or 0.0), no_tokens if tried.tokens is None else tried.tokens


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
