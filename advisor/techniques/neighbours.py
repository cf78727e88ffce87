"""Exact nearest neighbours by cosine similarity, with FAISS. A leaf: imported only when a technique needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

import faiss
import numpy as np
import numpy.typing as npt

from backends.types import FloatArray

_INDEX_FILE = "index.faiss"


class Neighbours:
    """A flat inner-product index over unit vectors: exact, and faster than any other up to about 100,000 of them."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def of(cls, vectors: FloatArray) -> Self:
        """Index vectors of shape (n, dimension) and length one."""
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return cls(index)

    def nearest(self, query: FloatArray, k: int) -> npt.NDArray[np.int64]:
        """Positions of the `k` vectors nearest to a query of shape (dimension,), nearest first."""
        _, found = self._index.search(query.reshape(1, -1), min(k, self._index.ntotal))
        return cast("npt.NDArray[np.int64]", found[0])

    def save(self, folder: Path) -> None:
        """Write the index into the folder."""
        # Written by Python, so that a full disk is an OSError like any other.
        (folder / _INDEX_FILE).write_bytes(faiss.serialize_index(self._index).tobytes())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what save wrote."""
        return cls(faiss.deserialize_index(np.fromfile(folder / _INDEX_FILE, dtype=np.uint8)))
