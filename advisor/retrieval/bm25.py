"""Search by words: BM25 (Robertson and Zaragoza 2009) as Lucene counts it, with bm25s. A leaf, imported when needed."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import bm25s
import numpy as np
import numpy.typing as npt
from bm25s.stopwords import STOPWORDS_EN_PLUS

# On import bm25s sets its logger to DEBUG, for whoever listens.
logging.getLogger("bm25s").setLevel(logging.WARNING)

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[^\W_{_IDEOGRAPHS}]+|[{_IDEOGRAPHS}]")
_STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)


def words(text: str) -> list[str]:
    """The words a text is searched by: folded case, no English stop words, plurals as singulars.

    Languages written without spaces are searched by single characters.
    """
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [_singular(word) for word in found if word not in _STOP_WORDS]


def _singular(word: str) -> str:
    """Harman's S stemmer ("How effective is suffixing?", JASIS 42, 1991): the plural endings of English alone."""
    if len(word) > 3 and word.endswith("ies") and word[-4] not in "ae":
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    if len(word) > 2 and word.endswith("s") and word[-2] not in "us":
        return word[:-1]
    return word


class WordIndex:
    """A BM25 index over texts."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Index the texts."""
        # A text without words holds the empty one, or bm25s would divide by a mean length of zero.
        vocabulary = {"": 0}
        ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in words(text) or [""]] for text in texts]
        index = bm25s.BM25(method="lucene")
        index.index((ids, vocabulary), create_empty_token=False, show_progress=False)
        return cls(index)

    def nearest(self, query: str, k: int) -> npt.NDArray[np.int64]:
        """Positions of at most `k` texts that share a word with the query, best first; ties in their order."""
        vocabulary = self._index.vocab_dict
        known = [vocabulary[word] for word in words(query) if word in vocabulary]
        if not known:
            return np.zeros(0, dtype=np.int64)
        scores: npt.NDArray[np.float32] = self._index.get_scores_from_ids(known)
        best = np.argsort(-scores, kind="stable")[:k]
        return best[scores[best] > 0]

    def save(self, folder: Path) -> None:
        """Write the index into a folder of its own."""
        self._index.save(folder, show_progress=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what save wrote, mapped into memory."""
        return cls(bm25s.BM25.load(folder, mmap=True, show_progress=False))
