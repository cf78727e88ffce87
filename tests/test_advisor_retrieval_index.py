"""Indexes that outlive the process, and the searches over them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from advisor.retrieval.bm25 import WordIndex, words
from advisor.retrieval.chunks import Chunk
from advisor.retrieval.fusion import reciprocal_rank_fusion
from advisor.retrieval.index import Index
from advisor.retrieval.vectors import EXACT_UP_TO, FILE, GRAPH_UP_TO, Kind, VectorIndex, kind_for
from backends.errors import InputError
from backends.meter import Helpers, Meter
from backends.scripted import ScriptedChat, ScriptedEmbedder
from backends.types import Embeddings, FloatArray

TEXTS = ["Apples and pears grow on trees.", "Iron is a metal.", "The Rhine is a river.", "Copper, another metal."]


class Counting(ScriptedEmbedder):
    """Remembers what it was asked to embed."""

    def __init__(self, fingerprint: str = "one") -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        self.texts += texts
        return await super().embed(texts)


def meter(embedder: ScriptedEmbedder) -> Meter:
    return Meter(ScriptedChat("scripted/none", {}), helpers=Helpers(embedder))


def chunks(texts: Sequence[str] = TEXTS) -> list[Chunk]:
    return [Chunk(str(number), "", text) for number, text in enumerate(texts)]


def unit(n: int, dimension: int = 16, seed: int = 0) -> FloatArray:
    rows = np.random.default_rng(seed).normal(size=(n, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_kind_of_index_follows_the_number_of_vectors() -> None:
    sizes = (1, EXACT_UP_TO, EXACT_UP_TO + 1, GRAPH_UP_TO, GRAPH_UP_TO + 1)
    assert [kind_for(n) for n in sizes] == ["flat", "flat", "hnsw", "hnsw", "ivf"]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_every_kind_finds_and_gives_back_after_saving(kind: Kind, tmp_path: Path) -> None:
    rows = unit(3000)
    exact = VectorIndex.of(rows, "flat").nearest(rows[:50], 10)
    index = VectorIndex.of(rows, kind)
    (tmp_path / "again").mkdir()
    index.save(tmp_path)
    mapped = VectorIndex.load(tmp_path)
    mapped.save(tmp_path / "again")
    (tmp_path / FILE).unlink()
    for other in (mapped, VectorIndex.load(tmp_path / "again"), VectorIndex.of(rows, kind)):
        assert (other.n, other.dimension) == (3000, 16)
        assert np.array_equal(other.nearest(rows[:50], 10), index.nearest(rows[:50], 10))
        assert other.vectors([7, 2999]) == pytest.approx(rows[[7, 2999]])
    found = index.nearest(rows[:50], 10)
    recall = np.mean([len(set(one) & set(right)) / 10 for one, right in zip(found, exact, strict=True)])
    assert recall > 0.8
    assert found[:, 0].tolist() == list(range(50)), "every vector is nearest to itself"


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else entirely")
    with pytest.raises(ValueError, match="not an index"):
        VectorIndex.load(tmp_path)


def test_words_are_folded_and_stemmed_and_stop_words_dropped() -> None:
    assert words("The STORIES of Straße-names, glasses and gas: 3.5 €") == [
        "story", "strasse", "name", "glasse", "ga", "3", "5",
    ]  # fmt: skip
    assert words("日本語 text") == ["日", "本", "語", "text"]


def test_bm25_ranks_by_rare_words_and_finds_nothing_for_unknown_ones(tmp_path: Path) -> None:
    index = WordIndex.of(TEXTS)
    index.save(tmp_path / "words")
    for one in (index, WordIndex.load(tmp_path / "words")):
        assert one.nearest("Which metals: iron?", 4).tolist() == [1, 3]
        assert one.nearest("metal", 1).tolist() == [1], "ties stay in order"
        assert one.nearest("the zebra", 4).tolist() == []
    assert WordIndex.of(["...", "the"]).nearest("the ...", 2).tolist() == []


def test_bm25_agrees_with_the_formula() -> None:
    """Lucene's BM25 with k1 1.5 and b 0.75, worked by hand for one word of one of two texts of equal length."""
    index = WordIndex.of(["iron iron", "zinc tin"])
    score = float(index._index.get_scores_from_ids([index._index.vocab_dict["iron"]])[0])
    idf, frequency = np.log(1 + (2 - 1 + 0.5) / (1 + 0.5)), 2 / (2 + 1.5)
    assert score == pytest.approx(idf * frequency, rel=1e-5)


def test_fusion_adds_reciprocal_ranks() -> None:
    fused = reciprocal_rank_fusion([[4, 7], [7, 9]], [0.5, 0.5])
    assert [position for position, _ in fused] == [7, 4, 9]
    assert fused[0][1] == pytest.approx(0.5 / 62 + 0.5 / 61)
    assert reciprocal_rank_fusion([[1], [2]], [0.4, 0.6])[0][0] == 2
    assert [position for position, _ in reciprocal_rank_fusion([[2], [1]], [0.5, 0.5])] == [1, 2], "ties by position"


async def test_an_unchanged_index_is_opened_and_not_built(tmp_path: Path) -> None:
    embedder = Counting()
    await Index.build(chunks(), meter(embedder), tmp_path, dense=True)
    assert embedder.texts == TEXTS
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = await Index.build(chunks(), meter(embedder), tmp_path, dense=True)
    assert embedder.texts == TEXTS
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == stamps
    assert [chunk.text for chunk in again.chunks] == TEXTS


async def test_only_what_is_new_is_embedded(tmp_path: Path) -> None:
    embedder = Counting()
    await Index.build(chunks(), meter(embedder), tmp_path, dense=True)
    embedder.texts.clear()
    changed = [*TEXTS[:2], "Zinc is new.", *TEXTS[2:], TEXTS[0]]
    index = await Index.build(chunks(changed), meter(embedder), tmp_path, dense=True)
    assert embedder.texts == ["Zinc is new."]
    fresh = await Index.build(chunks(changed), meter(Counting()), tmp_path / "elsewhere", dense=True)
    assert index.vectors is not None
    assert fresh.vectors is not None
    assert index.vectors.vectors(range(6)) == pytest.approx(fresh.vectors.vectors(range(6)))


async def test_another_embedder_shares_no_vectors(tmp_path: Path) -> None:
    await Index.build(chunks(), meter(Counting("one")), tmp_path, dense=True)
    other = Counting("two")
    await Index.build(chunks(), meter(other), tmp_path, dense=True)
    assert other.texts == TEXTS


async def test_words_alone_need_no_embedder(tmp_path: Path) -> None:
    embedder = Counting()
    index = await Index.build(chunks(), meter(embedder), tmp_path, dense=False)
    assert (index.vectors, embedder.texts) == (None, [])


def _truncate(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:60])


def _shorten(folder: Path) -> None:
    lines = (folder / "chunks.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "chunks.jsonl").write_text("".join(lines[1:]), "utf-8")


def _change_format(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}), "utf-8")


def _other_dimension(folder: Path) -> None:
    VectorIndex.of(unit(len(TEXTS))).save(folder)


@pytest.mark.parametrize("damage", [_truncate, _shorten, _change_format, _other_dimension])
async def test_a_damaged_index_says_so_and_is_built_again(damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    embedder = Counting()
    await Index.build(chunks(), meter(embedder), tmp_path, dense=True)
    (folder,) = tmp_path.iterdir()
    damage(folder)
    with pytest.raises(InputError, match="index") as caught:
        Index.load(folder)
    assert caught.value.problems[0].remedy
    again = await Index.build(chunks(), meter(embedder), tmp_path, dense=True)
    assert len(again.chunks) == len(TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name], "nothing unfinished is left behind"


async def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VectorIndex, "save", full)
    with pytest.raises(OSError, match="No space"):
        await Index.build(chunks(), meter(Counting()), tmp_path, dense=True)
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_package_does_not_cost_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await Index.build(chunks(), meter(Counting()), tmp_path, dense=True)
    (folder,) = tmp_path.iterdir()
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "advisor.retrieval.vectors")
    with pytest.raises(InputError, match="faiss"):
        await Index.build(chunks(), meter(Counting()), tmp_path, dense=True)
    assert (folder / FILE).is_file()
