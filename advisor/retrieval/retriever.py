"""Retrieval: from a query to the passages that bear on it, by words, by meaning, or by both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from advisor.retrieval.chunks import Chunk, split
from advisor.retrieval.fusion import reciprocal_rank_fusion
from advisor.retrieval.index import Index
from backends.errors import InputError, Problem
from backends.meter import Meter
from backends.types import FloatArray
from evals.task import Document

Mode = Literal["dense", "bm25", "hybrid"]

STEP = "retrieve"
"""Name of the step whose output is the JSON list of the ids of the documents found, best first."""

_DEPTH = 100
"""How far down each ranking is read before they are merged."""
_RERANKED = 20
"""How many candidates a cross-encoder scores: it takes as long for each as an embedding, for every query."""
_SETTINGS = "retrieval.json"


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document, found for a query."""

    document_id: str
    title: str
    text: str
    score: float
    """Higher is better; comparable within one query only."""


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """How documents are cut and searched."""

    mode: Mode = "hybrid"
    chunk_tokens: int = 200
    """Longest chunk, in approximate tokens; all-MiniLM-L6-v2 reads 256 and no further."""
    overlap: int = 40
    """Approximate tokens a chunk repeats of the one before."""
    rerank: str | None = None
    """Name of a cross-encoder that orders the best candidates anew."""
    dense_weight: float = 0.5
    """Share of the ranking by meaning in `hybrid`, the rest is the ranking by words."""


class Retriever:
    """Documents, cut and indexed."""

    def __init__(self, index: Index, settings: RetrievalSettings) -> None:
        self.settings = settings
        self._index = index

    @classmethod
    async def build(
        cls, documents: Sequence[Document], models: Meter, folder: Path, settings: RetrievalSettings
    ) -> Self:
        """Index the documents in a folder of `folder`, or open the index that is there.

        Raises InputError when the documents hold no text.
        """
        chunks = [chunk for document in documents for chunk in split(document, settings.chunk_tokens, settings.overlap)]
        if not chunks:
            raise InputError(Problem("documents", "the documents hold no text.", "Add text to them."))
        return cls(await Index.build(chunks, models, folder, dense=settings.mode != "bm25"), settings)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return len(self._index.chunks)

    async def retrieve(self, query: str, models: Meter, k: int) -> tuple[Passage, ...]:
        """The `k` best passages, best first, as a step named `retrieve`.

        Raises InputError when the index was built with another embedding model than the one that is open.
        """
        with models.step(STEP) as step:
            ((*found,),) = await self.rankings([query], models, max(k, _RERANKED if self.settings.rerank else k))
            if self.settings.rerank:
                found = await self._reranked(query, found, models)
            step.output = json.dumps(list(dict.fromkeys(passage.document_id for passage in found[:k])))
        return tuple(found[:k])

    async def rankings(self, queries: Sequence[str], models: Meter, depth: int) -> list[tuple[Passage, ...]]:
        """For each query the `depth` best passages, best first, before any cross-encoder; one embedding call."""
        vectors: list[FloatArray | None] = [None] * len(queries)
        if self._index.vectors is not None and self.settings.mode != "bm25":
            self._index.check(models.embedder_fingerprint)
            vectors = list(await models.embed(queries))
        return [
            tuple(
                _passage(self._index.chunks[position], score) for position, score in self._ranked(query, vector)[:depth]
            )
            for query, vector in zip(queries, vectors, strict=True)
        ]

    def gold(self, document_ids: Sequence[str]) -> tuple[Passage, ...]:
        """All passages of the documents named, in the order named; unknown ids have none."""
        by_document: dict[str, list[Passage]] = {}
        for chunk in self._index.chunks:
            by_document.setdefault(chunk.document_id, []).append(_passage(chunk, 1.0))
        return tuple(passage for named in dict.fromkeys(document_ids) for passage in by_document.get(named, ()))

    def save(self, folder: Path) -> None:
        """Write everything `load` needs into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SETTINGS).write_text(json.dumps(asdict(self.settings)), encoding="utf-8")
        self._index.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises InputError when it is missing or damaged."""
        try:
            settings = RetrievalSettings(**json.loads((folder / _SETTINGS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            what = f"the settings of the retrieval cannot be read: {error}."
            raise InputError(Problem(str(folder / _SETTINGS), what, "Run the scenario again.")) from error
        return cls(Index.load(folder), settings)

    def _ranked(self, query: str, vector: FloatArray | None) -> list[tuple[int, float]]:
        """Positions of chunks with their scores, best first."""
        share = {"dense": 1.0, "bm25": 0.0, "hybrid": self.settings.dense_weight}[self.settings.mode]
        rankings: list[list[int]] = []
        weights: list[float] = []
        if share < 1:
            rankings.append([int(position) for position in self._index.words.nearest(query, _DEPTH)])
            weights.append(1 - share)
        if vector is not None:
            rankings.append(self._index.nearest(vector, _DEPTH))
            weights.append(share)
        return reciprocal_rank_fusion(rankings, weights)

    async def _reranked(self, query: str, found: Sequence[Passage], models: Meter) -> list[Passage]:
        assert self.settings.rerank is not None
        if not found:
            return []
        texts = [f"{passage.title}\n{passage.text}" if passage.title else passage.text for passage in found]
        scores = await models.rerank(query, texts, self.settings.rerank)
        scored = [
            Passage(passage.document_id, passage.title, passage.text, score)
            for passage, score in zip(found, scores, strict=True)
        ]
        return sorted(scored, key=lambda passage: -passage.score)


def _passage(chunk: Chunk, score: float) -> Passage:
    return Passage(chunk.document_id, chunk.title, chunk.text, score)
