"""What could make the advice wrong later, with dates where there are some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from advisor.advice.phrases import percent
from advisor.economics.lifespan import days_until
from advisor.economics.money import Money
from advisor.outcome import Outcome, Row
from advisor.resolution import Resolution
from advisor.scenario.model import Scenario
from backends.wording import agreeing, counted
from evals.scorers.judge import JUDGE_WARNING


@dataclass(frozen=True, slots=True)
class Risk:
    """Something that could make the advice wrong later."""

    kind: str
    text: str
    date: str | None = None
    """ISO 8601: the day on which it comes true, where that is known."""
    days: int | None = None
    """Until then, from the day on which the run began; negative when it is over."""


def risks(scenario: Scenario, outcome: Outcome, resolved: Resolution, money: Money) -> tuple[Risk, ...]:
    """All of them, those with dates first."""
    return (
        *_shutdowns(outcome, money),
        *_training_ends(scenario, outcome, money),
        *_of_the_test(resolved),
        *_of_the_pick(scenario, outcome),
        *_of_prices(scenario, outcome),
        *_of_tuned_models(outcome),
        *_of_teachers(outcome),
        *_of_the_judge(outcome),
        *_of_what_went_wrong(outcome),
    )


def _shutdowns(outcome: Outcome, money: Money) -> Iterator[Risk]:
    """One risk a model that is to stop."""
    under_pick = () if outcome.pick is None else money.rests_on.get(outcome.pick, ())
    for model, known in money.lifecycles.items():
        if known.shutdown is None:
            continue
        left = days_until(known.shutdown, money.day)
        instead = f" Its maker names {known.replacement} instead." if known.replacement else ""
        mine = " The pick rests on it." if model in under_pick else ""
        yield Risk("shutdown", f"{_end(model, known.shutdown, left)}{mine}{instead}", known.shutdown.isoformat(), left)


def _end(model: str, shutdown: date, left: int) -> str:
    if left <= 0:
        return (
            f"{model} was to be shut down on {shutdown}, {counted(-left, 'day')} before this run: where it still "
            "answers, it may stop any day."
        )
    return f"{model} is shut down on {shutdown}, {counted(left, 'day')} after this run, and fine-tunes of it with it."


def _training_ends(scenario: Scenario, outcome: Outcome, money: Money) -> Iterator[Risk]:
    """For models that are or may be tuned: until when another round of training is possible."""
    tuned = dict.fromkeys(row.model for row in outcome.rows if row.tuned)
    if scenario.fine_tune.when != "never" and scenario.fine_tune.base is not None:
        tuned[scenario.fine_tune.base] = None
    for model in tuned:
        known = money.lifecycles.get(model)
        if known is None or known.training_ends is None:
            continue
        left = days_until(known.training_ends, money.day)
        when = f"{counted(left, 'day')} after this run" if left >= 0 else f"{counted(-left, 'day')} before it"
        text = f"Trainings of {model} can be begun until {known.training_ends}, {when}; after that it learns no more."
        yield Risk("training_ends", text, known.training_ends.isoformat(), left)


def _of_the_test(resolved: Resolution) -> Iterator[Risk]:
    if not resolved.suffices:
        yield Risk("small_test_split", str(resolved))


def _of_the_pick(scenario: Scenario, outcome: Outcome) -> Iterator[Risk]:
    if outcome.pick is None:
        return
    picked = outcome.row(outcome.pick)
    if scenario.volatility in {"daily", "realtime"} and picked.tuned:
        yield Risk(
            "volatile_knowledge",
            f"The knowledge changes ({scenario.volatility}); a tuned model does not learn of it. "
            "Prefer a candidate that reads documents or calls tools.",
        )
    if picked.measured.usd_per_1k_requests is None:
        yield Risk("unknown_price", f"The price of {picked.model} is not known; costs are not compared.")
    if picked.fresh is not None and picked.fresh.high < scenario.goal.target:
        yield Risk(
            "fresh_score",
            f"On samples that had no part in picking it, {picked.id} scores {picked.fresh.value:.2f} "
            f"({picked.fresh.low:.2f}-{picked.fresh.high:.2f}), below the target: look into it first.",
        )


def _of_prices(scenario: Scenario, outcome: Outcome) -> Iterator[Risk]:
    if scenario.usd_per_hour is None and any(_is_local(row) for row in outcome.rows):
        yield Risk(
            "assumed_price",
            "Dollars of local models rest on a default price of this machine; set hosting.usd_per_hour to yours.",
        )


def _is_local(row: Row) -> bool:
    return row.model.startswith("local/")


def _of_tuned_models(outcome: Outcome) -> Iterator[Risk]:
    for tuning in outcome.tunings:
        for probe in tuning.probes:
            if probe.high < 0:
                yield Risk(
                    "forgetting",
                    f"{tuning.candidate} forgot: on {probe.n} questions ({probe.probe}) it fell from {probe.before:.2f}"
                    f" to {probe.after:.2f}. Use it for this task only.",
                )
    for tuning in outcome.tunings:
        if (alike := tuning.parity) is not None and alike.differing:
            yield Risk(
                "parity",
                f"{counted(alike.differing, 'answer')} {agreeing(alike.differing, 'differs', 'differ')} between the "
                f"forms of {tuning.candidate} ({', '.join(alike.forms)}) on "
                f"{counted(alike.prompts, 'prompt')}; deploy the form that was measured, the merged one.",
            )


def _of_teachers(outcome: Outcome) -> Iterator[Risk]:
    """A student seldom knows more than its teacher, and nothing of what it was never shown."""
    for candidate, found in outcome.teachings.items():
        if outcome.row(found.teacher).status != "certified":
            text = f"{found.teacher}, which taught {candidate}, was not shown to meet the target itself."
            yield Risk("teacher", f"{text} A student seldom passes its teacher.")
        if found.rare:
            few = ", ".join(f"{label} ({count})" for label, count in found.rare.items())
            text = f"{candidate} was shown next to no samples of some labels: {few}. Label some yourself."
            yield Risk("teacher", text)


def _of_the_judge(outcome: Outcome) -> Iterator[Risk]:
    """What rests on a model's opinion must say so."""
    check = outcome.judge_check
    if check is None:
        return
    yield Risk("judge", JUDGE_WARNING[:1].upper() + JUDGE_WARNING[1:])
    if check.competes:
        yield Risk("judge", f"{check.model} judges its own answers and is likely to favour them; name another.")
    found = None if check.calibration is None else check.calibration.agreement
    if found is not None:
        share = found.share_equal
        yield Risk(
            "judge",
            f"The judge gave the same score as people on {percent(share.value)} of {counted(found.n, 'answer')} "
            f"({percent(share.low)} to {percent(share.high)}).",
        )


def _of_what_went_wrong(outcome: Outcome) -> Iterator[Risk]:
    if outcome.undiagnosed is not None:
        yield Risk("undiagnosed", f"Not every candidate that fell short was diagnosed: {outcome.undiagnosed}")
    errors = sum(row.errors for row in outcome.rows)
    texts = [text for row in outcome.rows for text, _ in row.error_texts]
    seen = f" (for instance {texts[0]!r})" if texts else ""
    if errors:
        meaning = agreeing(errors, "it is an error, not a wrong answer", "they are errors, not wrong answers")
        yield Risk("errors", f"{counted(errors, 'test sample')} got no answer{seen}; {meaning}.")
