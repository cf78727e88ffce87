"""The scorer `semantic_similarity` on hashed bags of words, whose cosines can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.meter import Meter
from backends.scripted import ScriptedChat, ScriptedEmbedder
from backends.types import Embeddings, Usage
from evals.scorers import ModelScorer, ScorerError, make_scorer, right_answer
from evals.task import Sample


def make(**options: Any) -> ModelScorer:
    scorer = make_scorer({"name": "semantic_similarity", **options}, Path())
    assert isinstance(scorer, ModelScorer)
    return scorer


def meter(embedder: Any = None) -> Meter:
    return Meter(ScriptedChat("scripted/none", {}), embedder or ScriptedEmbedder())


@pytest.mark.parametrize(
    ("output", "target", "value"),
    [
        ("red apple", "red apple", 1),
        ("Red apple!", "red apple", 1),
        ("red apple", "red plum", 0.5),
        ("red", "red plum", 0.5**0.5),
        ("green", "red plum", 0),
        ("", "red plum", 0),
    ],
)
async def test_the_score_is_the_cosine(output: str, target: str, value: float) -> None:
    found = await make().score(output, Sample("s1", "q", target), meter())
    assert found.value == pytest.approx(value, abs=1e-6)


async def test_a_right_answer_scores_exactly_1_and_asks_nothing() -> None:
    scorer, sample, models = make(), Sample("s1", "q", "three red plums"), meter()
    assert (await scorer.score(right_answer(scorer, sample) or "", sample, models)).value == 1
    assert models.usage.requests == 0


@dataclass
class Opposite:
    """Every text points the other way than the one before it."""

    name: str = "opposite"
    fingerprint: str = "opposite"

    async def embed(self, texts: list[str]) -> Embeddings:
        vectors = np.array([[(-1.0) ** number, 0.0] for number in range(len(texts))], dtype=np.float32)
        return Embeddings(vectors, Usage(1), 0.0)


async def test_a_negative_cosine_counts_as_0() -> None:
    assert (await make().score("a", Sample("s1", "q", "b"), meter(Opposite()))).value == 0


async def test_the_nearest_right_answer_counts() -> None:
    sample = Sample("s1", "q", "red plum", {"answers": ["green pear"]})
    found = await make(references="answers").score("a green pear", sample, meter())
    assert found.value == pytest.approx(2 / 6**0.5)
    assert "'green pear'" in found.reason
    with pytest.raises(ScorerError, match="no field 'answers'"):
        right_answer(make(references="answers"), Sample("s1", "q", "red plum"))


async def test_a_threshold_makes_the_score_binary() -> None:
    sample = Sample("s1", "q", "red plum")
    assert (make(at_least=0.6).binary, make().binary) == (True, False)
    assert (await make(at_least=0.6).score("red", sample, meter())).value == 1
    assert (await make(at_least=0.8).score("red", sample, meter())).value == 0


async def test_what_it_asks_is_metered() -> None:
    models = meter()
    await make().score("red", Sample("s1", "q", "red plum"), models)
    assert models.usage.requests == 2
    assert models.usage.cost_usd == pytest.approx(3 * 0.1 / 1e6)
