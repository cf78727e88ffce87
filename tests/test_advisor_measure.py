"""What trials say about one request: per answered request, and per step."""

from __future__ import annotations

import pytest

from advisor.measure import serving, step_costs
from backends.meter import Step
from backends.types import Usage
from evals.trial import Score, Trial


def trial(sample: str, steps: tuple[Step, ...] = (), error: str | None = None, usd: float | None = 0.002) -> Trial:
    score = None if error else Score(1.0)
    return Trial("c", "test", sample, "out", score, error, Usage(1, 10, 0, 2, usd), 0.5, steps=steps)


def step(name: str, usd: float | None = 0.001) -> Step:
    return Step(name, "x", Usage(1, 6, 0, 1, usd), 0.2)


def test_steps_are_averaged_over_all_answered_requests() -> None:
    found = step_costs(
        [trial("a", (step("cheap"), step("dear"))), trial("b", (step("cheap"),)), trial("c", error="no")]
    )
    cheap, dear = found
    assert (cheap.name, cheap.share, cheap.input_tokens, cheap.seconds) == ("cheap", 1.0, 6.0, pytest.approx(0.2))
    assert (dear.share, dear.input_tokens) == (0.5, 3.0)
    assert dear.usd_per_1k_requests == pytest.approx(0.5)


def test_a_step_with_an_unknown_price_has_an_unknown_price() -> None:
    (found,) = step_costs([trial("a", (step("x"),)), trial("b", (step("x", usd=None),))])
    assert found.usd_per_1k_requests is None


def test_without_steps_or_answers_there_is_nothing_to_average() -> None:
    assert step_costs([trial("a")]) == ()
    assert step_costs([trial("a", (step("x"),), error="no")]) == ()


def test_what_a_failed_trial_used_is_paid_by_those_that_were_answered() -> None:
    found = serving([trial("a"), trial("b", error="no")])
    assert (found.n, found.errors, found.score) == (2, 1, 1.0)
    assert found.usd_per_1k_requests == pytest.approx(4.0)
