"""Passages in place of those that a retrieval would find, for forecasts: real ones of the documents, at no cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from advisor.retrieval.chunks import split
from advisor.retrieval.retriever import Passage, RetrievalSettings
from advisor.techniques.forecast import Corpus, stand_ins
from evals.task import Document, Sample, Task

_CHARACTERS = 200_000
"""Of documents that are cut; the others are taken to be like them."""
_QUESTIONS = 200


@dataclass(frozen=True, slots=True)
class Stock:
    """Passages of some of the documents."""

    passages: tuple[Passage, ...]
    corpus: Corpus
    """What an index of all documents embeds."""

    def found(self, sample: Sample, count: int, seed: int) -> list[Passage]:
        """As many passages as a retrieval would give."""
        return stand_ins(self.passages, count, sample, seed)


@lru_cache(maxsize=8)
def stock_of(documents: tuple[Document, ...], tokens: int, overlap: int) -> Stock:
    """The stock of documents cut this way."""
    characters = sum(len(document.text) for document in documents)
    step = max(1, -(-characters // _CHARACTERS))
    drawn = documents[::step]
    share = sum(len(document.text) for document in drawn) / max(1, characters)
    chunks = [chunk for document in drawn for chunk in split(document, tokens, overlap)]
    passages = tuple(Passage(chunk.document_id, chunk.title, chunk.text, 1.0) for chunk in chunks)
    texts = tuple(chunk.indexed for chunk in chunks)
    return Stock(passages, Corpus(f"passages {tokens}/{overlap}", texts, len(texts) / (share or 1)))


def corpora(settings: Sequence[RetrievalSettings], task: Task) -> tuple[Corpus, ...]:
    """What is embedded to compare these retrievals: passages of every size, and the questions they are tried on."""
    sizes = dict.fromkeys((one.chunk_tokens, one.overlap) for one in settings if one.mode != "bm25")
    found = [stock_of(task.documents, *size).corpus for size in sizes]
    if len(settings) < 2 or not found:
        return tuple(found)
    inputs = [sample.input for sample in (*task.dev, *task.train)][:_QUESTIONS]
    return (*found, Corpus("questions", tuple(inputs), len(inputs)))
