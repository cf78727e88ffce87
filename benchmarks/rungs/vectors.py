"""FAISS on 100,000 vectors of 384 dimensions: build, save, load memory-mapped, search, for each kind of index.

    python benchmarks/rungs/vectors.py [N]

The vectors are made up: subjects of 400, within them clusters of 15, and noise larger than either. What inverted lists
find depends on the data more than on their number: the same share of lists, an eighth, finds 97 % of the nearest ten
among 4,493 vectors that all-MiniLM-L6-v2 gives for paragraphs of Wikipedia.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

import numpy as np

from advisor.retrieval.vectors import FILE, Kind, VectorIndex, kind_for
from backends.types import FloatArray

_DIMENSION, _QUERIES, _K = 384, 1000, 10


def made_up(n: int, seed: int = 1) -> tuple[FloatArray, FloatArray]:
    """Unit vectors (n, 384) and queries (1000, 384) of the same distribution, none of which is among the vectors."""
    rng = np.random.default_rng(seed)
    total = n + _QUERIES
    places = rng.permutation(total)
    rows = rng.normal(size=(total, _DIMENSION)).astype(np.float32)
    for members, weight in ((400, 0.5), (15, 0.7)):
        groups = -(-total // members)
        rows += weight * rng.normal(size=(groups, _DIMENSION)).astype(np.float32)[places // members]
    # Some directions vary more than others.
    rows *= (np.arange(1, _DIMENSION + 1) ** -0.25).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[:n], rows[n:]


def main(n: int = 100_000) -> None:
    """Print the table."""
    vectors, queries = made_up(n)
    exact = VectorIndex.of(vectors, "flat").nearest(queries, _K)
    near = np.einsum("qd,qkd->qk", queries, vectors[exact])
    print(f"{n} x {_DIMENSION} vectors, {_QUERIES} queries; chosen by size: {kind_for(n)}")
    print(f"mean cosine to the nearest {near[:, 0].mean():.2f}, to the tenth {near[:, -1].mean():.2f}\n")
    print("| index | recall@10 | build s | save s | load mapped s | MB | first query ms | ms/query single | batched |")
    print("|" + "---|" * 9)
    for kind in get_args(Kind):
        print("| " + " | ".join(row(kind, vectors, queries, exact)) + " |", flush=True)


def row(kind: Kind, vectors: FloatArray, queries: FloatArray, exact: np.ndarray) -> tuple[str, ...]:
    """One line of the table."""
    times = [time.perf_counter()]
    index = VectorIndex.of(vectors, kind)
    times.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder))
        times.append(time.perf_counter())
        mapped = VectorIndex.load(Path(folder))
        times.append(time.perf_counter())
        size = (Path(folder) / FILE).stat().st_size
        mapped.nearest(queries[:1], _K)
        times.append(time.perf_counter())
        single = [mapped.nearest(query[np.newaxis], _K)[0] for query in queries]
        times.append(time.perf_counter())
        batched = mapped.nearest(queries, _K)
        times.append(time.perf_counter())
    recall = np.mean([len(set(found) & set(right)) / _K for found, right in zip(single, exact, strict=True)])
    assert np.mean(batched == np.array(single)) > 0.999, "one query at a time must find what all at once find"
    build, save, load, first, one, all_at_once = np.diff(times)
    return (
        kind,
        f"{recall:.4f}",
        f"{build:.1f}",
        f"{save:.2f}",
        f"{load:.3f}",
        f"{size / 1e6:.0f}",
        f"{first * 1e3:.1f}",
        f"{one * 1e3 / _QUERIES:.2f}",
        f"{all_at_once * 1e3 / _QUERIES:.2f}",
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
