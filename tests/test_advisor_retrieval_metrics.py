"""Figures of retrieval against values worked out by hand."""

from __future__ import annotations

import json
import math

import pytest

from advisor.retrieval.metrics import coverage, ndcg_at, recall_at, reciprocal_rank, retrieval_quality, retrieved
from advisor.retrieval.retriever import Passage
from backends.meter import Step
from backends.types import Usage
from evals.task import Sample
from evals.trial import Trial

RANKED = ["d", "a", "x", "b"]


@pytest.mark.parametrize(
    ("k", "gold", "right"),
    [(1, ["a"], 0.0), (2, ["a"], 1.0), (3, ["a", "b"], 0.5), (4, ["b", "a"], 1.0), (9, ["a", "q", "r", "s"], 0.25)],
)
def test_recall_is_the_share_of_gold_documents_found(k: int, gold: list[str], right: float) -> None:
    assert recall_at(k, RANKED, gold) == right


@pytest.mark.parametrize(("gold", "right"), [(["d"], 1.0), (["a"], 0.5), (["b", "x"], 1 / 3), (["q"], 0.0)])
def test_reciprocal_rank_is_that_of_the_first_gold_document(gold: list[str], right: float) -> None:
    assert reciprocal_rank(RANKED, gold) == pytest.approx(right)


@pytest.mark.parametrize(
    ("k", "gold", "right"),
    [
        (4, ["d"], 1.0),
        (4, ["a"], 1 / math.log2(3)),
        (4, ["a", "b"], (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))),
        (2, ["b"], 0.0),
        (1, ["d", "a"], 1.0),
        (4, ["q"], 0.0),
    ],
)
def test_ndcg_discounts_by_the_logarithm_of_the_rank(k: int, gold: list[str], right: float) -> None:
    assert ndcg_at(k, RANKED, gold) == pytest.approx(right)


def _passage(document: str, text: str = "") -> Passage:
    return Passage(document, "", text.ljust(1200), 1.0)  # 1,200 characters are 300 tokens


def test_coverage_counts_lengths_and_wants_the_answer_in_the_passage() -> None:
    passages = [_passage("x"), _passage("a", "elsewhere"), _passage("a", "holds Paris"), _passage("b")]
    assert coverage(passages, ["a"], "") == pytest.approx((0 + 1 + 1) / 3)
    assert coverage(passages, ["a"], "paris") == pytest.approx((0 + 0 + 1) / 3), "the passage that holds it is third"
    assert coverage(passages, ["a"], "London") == pytest.approx((0 + 1 + 1) / 3), "it stands in none: any will do"
    assert coverage(passages, ["a", "b"], "") == pytest.approx((0 + 0.5 + 1) / 3)
    assert coverage(passages, [], "Paris") == pytest.approx((0 + 0 + 1) / 3)
    assert coverage(passages, [], "London") == 0


def _trial(id_: str, *outputs: str) -> Trial:
    steps = tuple(Step("retrieve", output, Usage(), 0.1) for output in outputs)
    return Trial("rag", "test", id_, "x", None, "failed", Usage(), 1.0, steps=(*steps, Step("read", "x", Usage(), 1.0)))


def test_the_quality_of_trials_is_read_from_their_steps() -> None:
    samples = [Sample(id_, "q", "a", {"supporting_doc_ids": gold}) for id_, gold in [("1", ["a"]), ("2", ["b", "c"])]]
    samples.append(Sample("3", "q", "a"))
    trials = [_trial("1", json.dumps(["d", "a"])), _trial("2", json.dumps(["b", "x"])), _trial("3", json.dumps(["a"]))]
    found = retrieval_quality(trials, samples)
    assert found is not None
    assert (found.n, found.shown, found.recall_at_5) == (2, 2.0, None), (
        "nothing is known of documents beyond the second"
    )
    assert found.recall == pytest.approx((1 + 0.5) / 2)
    assert found.mrr == pytest.approx((0.5 + 1) / 2)
    assert found.ndcg == pytest.approx((1 / math.log2(3) + 1 / (1 + 1 / math.log2(3))) / 2)


def test_several_retrievals_of_one_trial_count_as_one_ranking() -> None:
    trial = _trial("1", json.dumps(["d", "a", "e"]), "", json.dumps(["a", "b", "f"]))
    assert retrieved(trial) == ["d", "a", "e", "b", "f"]
    quality = retrieval_quality([trial], [Sample("1", "q", "a", {"supporting_doc_ids": ["b", "f"]})])
    assert quality is not None
    assert quality.recall_at_5 == 1.0


def test_without_gold_documents_or_retrievals_there_is_no_quality() -> None:
    assert retrieval_quality([_trial("1", '["a"]')], [Sample("1", "q", "a")]) is None
    assert retrieval_quality([_trial("1")], [Sample("1", "q", "a", {"supporting_doc_ids": ["a"]})]) is None
    assert retrieved(_trial("1", "")) is None, "a retrieval that failed found nothing to judge"
