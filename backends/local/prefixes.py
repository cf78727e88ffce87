"""Keys and values of prompts seen before, so that instructions and demonstrations are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from backends.local.batches import common_prefix

MIN_TOKENS = 16
"""Shorter prefixes are not worth a forward pass of their own."""

_MAX_SEGMENTS = 4
"""Each costs a call of attention per layer; longer chains are joined into one tensor."""

Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, of shape (heads, tokens, size)."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A stretch of a prompt that is kept once, however many prompts run through it."""

    layers: Layers

    @property
    def length(self) -> int:
        """Tokens."""
        return int(self.layers[0][0].shape[1])

    @property
    def nbytes(self) -> int:
        """Memory, that of the tensors it may be a part of included."""
        return sum(part.untyped_storage().nbytes() for pair in self.layers for part in pair)

    def first(self, tokens: int) -> Segment:
        """The beginning of it, in the same memory."""
        return self if tokens == self.length else Segment([(k[:, :tokens], v[:, :tokens]) for k, v in self.layers])


Chain = tuple[Segment, ...]
"""The segments of a prompt from its beginning; equal beginnings are the same objects."""


def joined(chain: Chain) -> Segment:
    """One segment that holds what the chain holds."""
    if len(chain) == 1:
        return chain[0]
    parts = zip(*(segment.layers for segment in chain), strict=True)
    return Segment([(torch.cat([k for k, _ in layer], 1), torch.cat([v for _, v in layer], 1)) for layer in parts])


def segment_of(cache: Any) -> Segment:
    """What a transformers cache of one row holds."""
    return Segment([(layer.keys[0], layer.values[0]) for layer in cache.layers])


def repeated(chain: Chain, rows: int) -> DynamicCache:
    """A transformers cache that holds the chain for each of `rows` rows."""
    layers = joined(chain).layers
    return DynamicCache([(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in layers])


class Prefixes:
    """The most recently used prompts' keys and values, up to a number of bytes."""

    def __init__(self, max_bytes: int = 1 << 30, max_entries: int = 64) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries: dict[tuple[int, ...], Chain] = {}

    def longest(self, ids: Sequence[int]) -> tuple[int, Chain]:
        """The most tokens at the start of `ids` that are known, and where they are kept; (0, ()) for too few."""
        best, size = max(
            ((known, common_prefix(known, ids)) for known in self._entries), key=lambda found: found[1], default=((), 0)
        )
        if size < MIN_TOKENS:
            return 0, ()
        chain = self._entries.pop(best)
        self._entries[best] = chain
        return size, _first(chain, size)

    def remember(self, ids: Sequence[int], chain: Chain) -> Chain:
        """Keep a chain that holds exactly `ids`; returns it, joined if it was too long."""
        new = tuple(ids)
        if new in self._entries:
            return self._entries[new]
        if len(chain) > _MAX_SEGMENTS:
            chain = (joined(chain),)
        if len(new) >= MIN_TOKENS:
            for known in [known for known in self._entries if new[: len(known)] == known]:
                del self._entries[known]
            self._entries[new] = chain
            while len(self._entries) > self._max_entries or self._bytes() > self._max_bytes:
                del self._entries[next(iter(self._entries))]
        return chain

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _bytes(self) -> int:
        segments = {id(segment): segment for chain in self._entries.values() for segment in chain}
        return sum(segment.nbytes for segment in segments.values())


def _first(chain: Chain, tokens: int) -> Chain:
    """The chain's first tokens; segments that are whole stay the same objects."""
    found: list[Segment] = []
    for segment in chain:
        if tokens <= 0:
            break
        found.append(segment.first(min(tokens, segment.length)))
        tokens -= segment.length
    return tuple(found)
