"""From a query to passages: order, steps, cost, saving, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from advisor.retrieval.retriever import RetrievalSettings, Retriever
from backends.errors import InputError, RequestError
from backends.meter import Helpers, Meter
from backends.scripted import ScriptedChat, ScriptedEmbedder
from backends.scripted_rerank import ScriptedReranker
from backends.types import Embeddings
from evals.task import Document

DOCUMENTS = (
    Document("trees", "Apples and pears grow on trees. " * 12 + "Cherries too.", "Fruit"),
    Document("metal", "Iron and zinc are dug from the ground.", "Metal"),
    Document("rhine", "It rises in the Alps and reaches the sea.", "Rhine"),
)


def meter(embedder: ScriptedEmbedder | None = None) -> Meter:
    helpers = Helpers(embedder or ScriptedEmbedder(), reranker=ScriptedReranker.open)
    return Meter(ScriptedChat("scripted/none", {}), helpers=helpers)


async def build(folder: Path, **settings: object) -> Retriever:
    return await Retriever.build(DOCUMENTS, meter(), folder, RetrievalSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
async def test_the_best_passage_comes_first_and_titles_are_searched(mode: str, tmp_path: Path) -> None:
    retriever = await build(tmp_path, mode=mode)
    found = await retriever.retrieve("the Rhine", meter(), 1)
    assert [(passage.document_id, passage.title) for passage in found] == [("rhine", "Rhine")]
    assert found[0].text == DOCUMENTS[2].text


async def test_a_retrieval_is_a_step_with_its_documents_and_its_cost(tmp_path: Path) -> None:
    retriever = await build(tmp_path, chunk_tokens=30, overlap=5)
    assert retriever.chunks > 4
    models = meter()
    found = await retriever.retrieve("pears on trees with iron", models, 4)
    (step,) = models.steps
    assert step.name == "retrieve"
    assert json.loads(step.output) == ["trees", "metal"], "each document once, best first"
    assert len(found) == 4
    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)
    assert (step.usage.requests, step.usage.input_tokens) == (1, 5)
    assert step.seconds == models.seconds > 0


async def test_words_alone_ask_no_model(tmp_path: Path) -> None:
    retriever = await build(tmp_path, mode="bm25")
    models = meter()
    assert await retriever.retrieve("a zebra", models, 3) == ()
    assert models.steps[0].output == "[]"
    assert (models.usage.requests, models.seconds) == (0, 0.0)


async def test_a_cross_encoder_reorders_what_was_found_and_is_metered(tmp_path: Path) -> None:
    plain, reranked = await build(tmp_path), await build(tmp_path, rerank="scripted/words")
    query = "pears pears pears sea"
    models = meter()
    (first,) = await reranked.retrieve(query, models, 1)
    assert first.document_id in {"trees", "rhine"}
    assert first.score == 0.5, "half of the query's words"
    before = meter()
    await plain.retrieve(query, before, 1)
    assert models.usage.requests == before.usage.requests + 1
    assert models.seconds > before.seconds


async def test_a_saved_retriever_finds_the_same(tmp_path: Path) -> None:
    retriever = await build(tmp_path / "indexes", dense_weight=0.3, chunk_tokens=30, overlap=5)
    retriever.save(tmp_path / "saved")
    again = Retriever.load(tmp_path / "saved")
    assert again.settings == retriever.settings
    for query in ("iron", "cherries in the Alps", ""):
        assert await again.retrieve(query, meter(), 3) == await retriever.retrieve(query, meter(), 3)


async def test_gold_passages_are_those_of_the_documents_named_in_order(tmp_path: Path) -> None:
    retriever = await build(tmp_path, chunk_tokens=30, overlap=0)
    found = retriever.gold(["rhine", "nowhere", "trees", "rhine"])
    assert list(dict.fromkeys(passage.document_id for passage in found)) == ["rhine", "trees"]
    assert " ".join(passage.text for passage in found[1:]) == DOCUMENTS[0].text


async def test_another_embedder_than_the_index_was_built_with_is_refused(tmp_path: Path) -> None:
    retriever = await build(tmp_path)
    other = ScriptedEmbedder("scripted/other")
    with pytest.raises(InputError, match="of another embedding model") as caught:
        await retriever.retrieve("iron", meter(other), 1)
    assert "embedder" in caught.value.problems[0].remedy
    words = await build(tmp_path, mode="bm25")
    assert await words.retrieve("iron", meter(other), 1), "words know of no embedder"


class Shorter(ScriptedEmbedder):
    """Says that it is the same model, and gives shorter vectors."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        found = await super().embed(texts)
        return Embeddings(found.vectors[:, :100], found.usage, found.seconds)


async def test_vectors_of_another_dimension_are_refused(tmp_path: Path) -> None:
    retriever = await build(tmp_path)
    with pytest.raises(InputError, match="256 dimensions, and the embedding model gives 100"):
        await retriever.retrieve("iron", meter(Shorter()), 1)


async def test_without_an_embedder_the_request_fails_and_nothing_else(tmp_path: Path) -> None:
    retriever = await build(tmp_path)
    with pytest.raises(RequestError, match="embedding model"):
        await retriever.retrieve("iron", Meter(ScriptedChat("scripted/none", {})), 1)


async def test_documents_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text"):
        await Retriever.build([Document("a", " \n")], meter(), tmp_path, RetrievalSettings())


def test_a_folder_without_a_retriever_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="settings"):
        Retriever.load(tmp_path)
