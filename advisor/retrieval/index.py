"""An index of chunks that outlives the process: kept in a folder named by what it holds, and reused piece by piece."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from advisor.retrieval.chunks import Chunk
from backends.errors import InputError, Problem
from backends.extras import require
from backends.meter import Meter
from backends.types import FloatArray

_FORMAT = 1
_MANIFEST, _CHUNKS, _WORDS = "manifest.json", "chunks.jsonl", "words"
_WORDS_LEAF, _VECTORS_LEAF = "advisor.retrieval.bm25", "advisor.retrieval.vectors"
_REMEDY = "Delete the folder; the next run builds it again."


class _Vectors(Protocol):
    dimension: int

    def nearest(self, queries: FloatArray, k: int) -> npt.NDArray[np.int64]: ...

    def vectors(self, positions: Sequence[int]) -> FloatArray: ...

    def save(self, folder: Path) -> None: ...


class _Words(Protocol):
    def nearest(self, query: str, k: int) -> npt.NDArray[np.int64]: ...

    def save(self, folder: Path) -> None: ...


class Index:
    """Chunks, searchable by words and, where it was built with an embedder, by meaning."""

    def __init__(self, chunks: tuple[Chunk, ...], words: _Words, vectors: _Vectors | None, embedder: str) -> None:
        self.chunks = chunks
        self.words = words
        self.vectors = vectors
        self.embedder = embedder
        """Fingerprint of the embedding model; empty without vectors."""

    @classmethod
    async def build(cls, chunks: Sequence[Chunk], models: Meter, parent: Path, dense: bool) -> Self:
        """The index of these chunks in a folder of `parent`: opened when it is there, otherwise built.

        Chunks that another index of the same embedder in `parent` holds are not embedded again.
        """
        # Before anything is opened: a package that is missing must not look like a damaged index.
        word_index = require(_WORDS_LEAF, "rag").WordIndex
        if dense:
            require(_VECTORS_LEAF, "rag")
        embedder = models.embedder_fingerprint if dense else ""
        folder = parent / _name(chunks, embedder)
        try:
            return cls.load(folder)
        except InputError:
            # Absent, or damaged: either way it is made again.
            shutil.rmtree(folder, ignore_errors=True)
        texts = [chunk.indexed for chunk in chunks]
        vectors = await _embedded(texts, models, parent, embedder) if dense else None
        parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".part-", dir=parent))
        try:
            cls(tuple(chunks), word_index.of(texts), vectors, embedder).save(unfinished)
            unfinished.rename(folder)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            # Another fit may have been first; a full disk is the caller's to explain.
            if not folder.is_dir():
                raise
        return cls.load(folder)

    def check(self, embedder: str) -> None:
        """Raise InputError when the vectors are of another embedding model than `embedder` (a fingerprint)."""
        if self.vectors is not None and embedder and embedder != self.embedder:
            what = f"of another embedding model or version ({self.embedder[:12]}) than the one in use ({embedder[:12]})"
            raise _mismatch(what)

    def nearest(self, vector: FloatArray, k: int) -> list[int]:
        """Positions of the chunks nearest in meaning, nearest first. Raises InputError for another dimension."""
        if self.vectors is None:
            return []
        if len(vector) != self.vectors.dimension:
            raise _mismatch(f"of {self.vectors.dimension} dimensions, and the embedding model gives {len(vector)}")
        return [int(position) for position in self.vectors.nearest(vector[np.newaxis], k)[0] if position >= 0]

    def save(self, folder: Path) -> None:
        """Write everything `load` needs into an existing folder."""
        lines = (json.dumps(asdict(chunk), ensure_ascii=False) for chunk in self.chunks)
        (folder / _CHUNKS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.words.save(folder / _WORDS)
        if self.vectors is not None:
            self.vectors.save(folder)
        dimension = self.vectors.dimension if self.vectors is not None else None
        manifest = {"format": _FORMAT, "embedder": self.embedder, "dimension": dimension, "chunks": len(self.chunks)}
        (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what save wrote, mapped into memory. Raises InputError when it is missing or damaged."""
        try:
            manifest = _manifest(folder)
            chunks = tuple(_chunks(folder))
            words = require(_WORDS_LEAF, "rag").WordIndex.load(folder / _WORDS)
            vectors = None
            if manifest["embedder"]:
                vectors = require(_VECTORS_LEAF, "rag").VectorIndex.load(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(Problem(str(folder), f"the index cannot be read: {error}.", _REMEDY)) from error
        held = len(chunks) if vectors is None else vectors.n
        if not len(chunks) == manifest["chunks"] == held or (vectors and vectors.dimension != manifest["dimension"]):
            raise InputError(Problem(str(folder), "the parts of the index do not belong together.", _REMEDY))
        return cls(chunks, words, vectors, manifest["embedder"])


def _mismatch(what: str) -> InputError:
    remedy = "Use the embedder it was built with, or run the scenario anew to build another index."
    return InputError(Problem("embedder", f"the index of the documents holds vectors {what}.", remedy))


def _name(chunks: Iterable[Chunk], embedder: str) -> str:
    digest = hashlib.sha256(f"{_FORMAT}\n{embedder}\n".encode())
    for chunk in chunks:
        digest.update(json.dumps(asdict(chunk), ensure_ascii=False).encode())
    return digest.hexdigest()[:24]


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != _FORMAT:
        raise ValueError(f"it has the format {manifest['format']!r}, and this version reads {_FORMAT}")
    return dict(manifest)


def _chunks(folder: Path) -> Iterator[Chunk]:
    with (folder / _CHUNKS).open(encoding="utf-8") as lines:
        for line in lines:
            yield Chunk(**json.loads(line))


async def _embedded(texts: Sequence[str], models: Meter, parent: Path, embedder: str) -> _Vectors:
    """An index of the texts' vectors, embedding only those that no neighbouring index holds."""
    known = _known(dict.fromkeys(texts), parent, embedder)
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    if missing:
        fresh = await models.embed(missing)
        if known and fresh.shape[1] != len(next(iter(known.values()))):
            known = {}
            missing = list(dict.fromkeys(texts))
            fresh = await models.embed(missing)
        known.update(zip(missing, fresh, strict=True))
    rows = np.stack([known[text] for text in texts])
    vectors: _Vectors = require(_VECTORS_LEAF, "rag").VectorIndex.of(rows)
    return vectors


def _known(texts: Iterable[str], parent: Path, embedder: str) -> dict[str, FloatArray]:
    """Vectors of the texts that indexes in `parent` hold."""
    wanted = set(texts)
    known: dict[str, FloatArray] = {}
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if len(known) == len(wanted):
            break
        try:
            if folder.name.startswith(".") or _manifest(folder)["embedder"] != embedder:
                continue
            index = Index.load(folder)
        except (InputError, OSError, ValueError, KeyError, TypeError):
            continue
        held = {chunk.indexed: row for row, chunk in enumerate(index.chunks)}
        found = [text for text in held if text in wanted and text not in known]
        if found and index.vectors is not None:
            known.update(zip(found, index.vectors.vectors([held[text] for text in found]), strict=True))
    return known
