"""Nearest vectors by cosine similarity, with FAISS. A leaf: imported only when documents are searched by meaning."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, cast

import faiss
import numpy as np
import numpy.typing as npt

from backends.types import FloatArray

Kind = Literal["flat", "hnsw", "ivf"]

FILE = "vectors.faiss"
EXACT_UP_TO = 100_000
"""Exact search takes about 15 ms a query at this size (384 dimensions, two cores), far less than any answer."""
GRAPH_UP_TO = 500_000
"""Beyond, building a graph takes five times as long as building inverted lists."""

_LINKS, _BUILD_DEPTH, _SEARCH_DEPTH = 32, 80, 128
_PROBED = 1 / 8
"""Share of the lists that are searched: finds 97 % of the nearest ten among vectors of Wikipedia paragraphs."""
_TRAINING_PER_LIST = 64
_LISTS_MARK = b"IwFl"
"""How the file of an IndexIVFFlat begins."""


def kind_for(n: int) -> Kind:
    """The index that suits `n` vectors."""
    if n <= EXACT_UP_TO:
        return "flat"
    return "hnsw" if n <= GRAPH_UP_TO else "ivf"


class VectorIndex:
    """An inner-product index over unit vectors; the same vectors always give the same index."""

    def __init__(self, index: Any, file: Path | None = None) -> None:
        self._index = index
        self._file = file
        """The file that the index is mapped from."""

    @classmethod
    def of(cls, vectors: FloatArray, kind: Kind | None = None) -> Self:
        """Index vectors of shape (n, dimension) and length one; `kind` None chooses by their number."""
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        makers = {"flat": _flat, "hnsw": _graph, "ivf": _lists}
        return cls(makers[kind or kind_for(len(rows))](rows))

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._index.d)

    @property
    def n(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    def nearest(self, queries: FloatArray, k: int) -> npt.NDArray[np.int64]:
        """Positions of the `k` vectors nearest to each query, nearest first; shape (queries, k at most).

        A graph or inverted lists may find fewer than `k`: -1 stands for none.
        """
        rows = np.ascontiguousarray(queries, dtype=np.float32)
        # To wake a second thread for one query takes longer than the search.
        with _threads(1 if len(rows) == 1 else faiss.omp_get_max_threads()):
            _, found = self._index.search(rows, min(k, self.n))
        return cast("npt.NDArray[np.int64]", found)

    def vectors(self, positions: Sequence[int]) -> FloatArray:
        """The vectors at these positions, shape (positions, dimension)."""
        if isinstance(self._index, faiss.IndexIVF):
            self._index.make_direct_map()
        wanted = np.asarray(positions, dtype=np.int64)
        return cast("FloatArray", self._index.reconstruct_batch(wanted))

    def save(self, folder: Path) -> None:
        """Write the index into the folder."""
        if self._file is not None:
            # Inverted lists that are mapped would be written as the name of the file they lie in.
            shutil.copyfile(self._file, folder / FILE)
            return
        # Written by Python, so that a full disk is an OSError like any other.
        (folder / FILE).write_bytes(faiss.serialize_index(self._index).data)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what save wrote, mapped into memory: pages are read when they are searched.

        Raises OSError or ValueError for a file that is no index.
        """
        file = folder / FILE
        with file.open("rb") as opened:
            lists = opened.read(len(_LISTS_MARK)) == _LISTS_MARK
        try:
            # FAISS maps inverted lists by one flag and all other vectors by another, and never both.
            index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP if lists else faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise ValueError(f"{FILE} is not an index that this version of FAISS reads") from error
        return cls(index, file)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Let FAISS use so many threads for a while."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(n)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _flat(rows: FloatArray) -> Any:
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return index


def _graph(rows: FloatArray) -> Any:
    """Hierarchical navigable small worlds (Malkov and Yashunin 2016, arXiv:1603.09320)."""
    index = faiss.IndexHNSWFlat(rows.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _BUILD_DEPTH
    index.hnsw.efSearch = _SEARCH_DEPTH
    # With several threads, which links are made depends on which is first.
    with _threads(1):
        index.add(rows)
    return index


def _lists(rows: FloatArray) -> Any:
    """Inverted lists of the vectors nearest to each of about 2 sqrt(n) centres."""
    lists = max(1, min(round(2 * math.sqrt(len(rows))), len(rows) // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = _TRAINING_PER_LIST
    index.train(rows)
    index.add(rows)
    index.nprobe = max(1, round(lists * _PROBED))
    return index
