"""Agreement of a judge with people, on tables worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.meter import Meter
from backends.scripted import ScriptedChat
from evals.scorers import make_scorer
from evals.scorers.agreement import agreement, calibrate, judge_of
from evals.scorers.judge import Judge
from evals.task import Sample

# Cohen's kappa of the 2 x 2 table 20, 5, 10, 15: equal 0.7, by chance 0.5, kappa 0.4.
TABLE = [(1.0, 1.0)] * 20 + [(1.0, 0.0)] * 5 + [(0.0, 1.0)] * 10 + [(0.0, 0.0)] * 15


def test_binary_scores_agree_beyond_chance() -> None:
    found = agreement(TABLE)
    assert (found.n, found.share_equal.value, found.correlation) == (50, 0.7, None)
    assert found.kappa == pytest.approx(0.4)
    # Wilson's interval of 35 of 50.
    assert (found.share_equal.low, found.share_equal.high) == pytest.approx((0.5625, 0.8090), abs=1e-4)
    assert found.mean_difference == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("pairs", "kappa"),
    [
        ([(1.0, 1.0), (0.0, 0.0)], 1.0),
        ([(1.0, 0.0), (0.0, 1.0)], -1.0),
        ([(1.0, 1.0), (1.0, 0.0)], 0.0),
        ([(1.0, 1.0), (1.0, 1.0)], None),
    ],
)
def test_kappa_is_unknown_where_nothing_varies(pairs: list[tuple[float, float]], kappa: float | None) -> None:
    assert agreement(pairs).kappa == kappa


def test_graded_scores_agree_within_a_step_and_by_rank() -> None:
    found = agreement([(0.1, 0.2), (0.5, 0.5), (0.7, 0.6), (0.9, 0.7)])
    assert found.share_equal.value == 0.75
    assert found.correlation == pytest.approx(1.0)
    assert found.kappa is None
    assert found.mean_difference == pytest.approx(0.05)


def test_correlation_is_unknown_where_one_side_never_varies() -> None:
    assert agreement([(0.5, 0.1), (0.5, 0.9)]).correlation is None


def test_no_pairs_are_no_agreement() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        agreement([])


def meter() -> Meter:
    rules = [
        {"when": "Paris", "answer": json.dumps({"reason": "r", "verdict": "pass"})},
        {"when": "broken", "answer": "no idea"},
    ]
    fails = json.dumps({"reason": "r", "verdict": "fail"})
    return Meter(ScriptedChat("scripted/judge", {"rules": rules, "default": fails}))


def sample(answer: str, said: Any) -> Sample:
    return Sample(answer, "q", "target", {"human_answer": answer, "human_score": said})


async def test_a_judge_is_held_against_the_answers_that_people_scored() -> None:
    judge = Judge("scripted/judge", "It is right.", reference=False)
    samples = [sample("Paris", 1), sample("Lyon", 0), sample("Nice", 1), sample("broken", 0), Sample("s", "q", "t")]
    found = await calibrate(judge, samples, meter)
    assert found is not None
    assert found.agreement is not None
    assert (found.agreement.n, found.errors) == (3, 1)
    assert found.agreement.share_equal.value == pytest.approx(2 / 3)
    assert found.usage.requests == 8
    assert await calibrate(judge, [Sample("s", "q", "t")], meter) is None


async def test_a_judge_that_never_answers_has_no_agreement() -> None:
    found = await calibrate(Judge("scripted/judge", "It is right.", reference=False), [sample("broken", 1)], meter)
    assert found is not None
    assert (found.agreement, found.errors) == (None, 1)


def test_the_judge_is_found_wherever_it_is_asked() -> None:
    spec = {"name": "judge", "model": "scripted/judge", "rubric": "It is right."}
    judge = make_scorer(spec, Path())
    assert judge_of(judge) == judge
    assert judge_of(make_scorer({"name": "citation", "answer": spec}, Path())) == judge
    for other in ("exact", "citation", "semantic_similarity", {"name": "citation", "answer": "semantic_similarity"}):
        assert judge_of(make_scorer(other, Path())) is None
