"""The scorer `citation`: supported, and right besides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.meter import Meter
from backends.scripted import ScriptedChat, ScriptedEmbedder
from evals.scorers import ModelScorer, ScorerError, make_scorer, right_answer
from evals.scorers.citation import citations, without_citations
from evals.task import Sample
from evals.trial import Score


def sample(*gold: str, target: str = "Paris") -> Sample:
    return Sample("s1", "What is the capital?", target, {"supporting_doc_ids": list(gold)})


def score(output: str, *gold: str, **options: Any) -> Score:
    return make_scorer({"name": "citation", **options}, Path())(output, sample(*gold))


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("Paris [d1].", 1),
        ("Paris [d2]", 1),
        ("Paris [ d1 ]", 1),
        ("Paris [d9, d1]", 1),
        ("Paris [d9][d1]", 1),
        ("Paris [d9]", 0),
        ("Paris d1", 0),
        ("Paris (d1)", 0),
        ("Paris [D1]", 0),
        ("Paris [d1](https://example.org)", 0),
        ("Paris [d11]", 0),
        ("", 0),
    ],
)
def test_one_gold_document_must_be_cited_in_square_brackets(output: str, value: float) -> None:
    found = score(output, "d1", "d2")
    assert found.value == value
    assert "cites" in found.reason


def test_other_documents_may_be_cited_besides_unless_the_scenario_forbids_it() -> None:
    assert score("Paris [d9] [d1]", "d1").value == 1
    assert score("Paris [d9] [d1]", "d1", only_gold=True).value == 0
    assert score("Paris [d2] [d1]", "d1", "d2", only_gold=True).value == 1


def test_an_id_may_hold_a_comma() -> None:
    assert score("Paris [Smith, J. 1999]", "Smith, J. 1999", only_gold=True).value == 1


@pytest.mark.parametrize(
    ("output", "value"), [("Paris [d1].", 1), ("Rome [d1]", 0), ("Paris", 0), ("Paris [d9]", 0), ("[d1] paris", 1)]
)
def test_with_another_scorer_the_answer_must_be_right_and_supported(output: str, value: float) -> None:
    assert score(output, "d1", answer="exact").value == value


def test_a_graded_answer_keeps_its_grade_where_it_is_supported() -> None:
    spec = {"name": "citation", "answer": "token_f1"}
    assert not make_scorer(spec, Path()).binary
    assert make_scorer({"name": "citation", "answer": "exact"}, Path()).binary
    assert score("city of Paris [d1]", "d1", answer="token_f1").value == pytest.approx(0.5)
    assert score("city of Paris [d2]", "d1", answer="token_f1").value == 0


def test_a_function_of_the_scenario_may_judge_the_answer(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def good(output, sample) -> bool:\n    return output == 'Paris'\n", "utf-8")
    scorer = make_scorer({"name": "citation", "answer": "own.py:good"}, tmp_path)
    assert scorer("Paris [d1]", sample("d1")).value == 1
    assert scorer("Rome [d1]", sample("d1")).value == 0


def test_a_sample_without_gold_documents_is_no_wrong_answer() -> None:
    with pytest.raises(ScorerError, match="s1 has no gold documents"):
        score("Paris [d1]")
    with pytest.raises(ScorerError, match="s1 has no gold documents"):
        right_answer(make_scorer("citation", Path()), sample())


@pytest.mark.parametrize("answer", [None, "exact", {"name": "includes", "case_sensitive": True}])
def test_a_right_answer_that_cites_scores_1(answer: Any) -> None:
    scorer = make_scorer({"name": "citation", "answer": answer}, Path())
    right = right_answer(scorer, sample("d1"))
    assert right == "Paris [d1]"
    assert scorer(right, sample("d1")).value == 1


async def test_a_scorer_that_asks_models_is_asked_only_about_supported_answers() -> None:
    scorer = make_scorer({"name": "citation", "answer": "semantic_similarity"}, Path())
    assert isinstance(scorer, ModelScorer)
    assert (scorer.name, scorer.binary, scorer.asks, scorer.embeds) == ("citation", False, None, True)
    meter = Meter(ScriptedChat("scripted/none", {}), ScriptedEmbedder())
    assert (await scorer.score("capital Paris [d2]", sample("d1"), meter)).value == 0
    assert meter.usage.requests == 0
    assert (await scorer.score("capital Paris [d1]", sample("d1"), meter)).value == pytest.approx(0.5**0.5)
    assert meter.usage.requests == 2


def test_citations_are_read_in_order_and_taken_out() -> None:
    text = "Paris [a], not Rome [b] [a]. See [link](x)."
    assert citations(text) == ("a", "b")
    assert without_citations(text) == "Paris, not Rome. See [link](x)."
