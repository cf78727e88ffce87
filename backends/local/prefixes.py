"""Keys and values of prompts seen before, so that instructions and demonstrations are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from backends.local.batches import common_prefix

MIN_TOKENS = 16
"""Shorter prefixes are not worth a forward pass of their own."""

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, of shape (1, heads, tokens, size)."""


def layers_of(cache: Any) -> Layers:
    """The keys and values in a transformers cache of plain layers."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def repeated(layers: Layers, rows: int) -> DynamicCache:
    """A new cache that holds one row's keys and values for each of `rows` rows."""
    return DynamicCache([(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in layers])


class Prefixes:
    """The most recently used prompts' keys and values, up to a number of bytes."""

    def __init__(self, max_bytes: int = 1 << 30, max_entries: int = 8) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries: dict[tuple[int, ...], Layers] = {}

    def longest(self, ids: Sequence[int]) -> tuple[int, Layers]:
        """The most tokens at the start of `ids` that are known, and their keys and values; (0, []) for too few."""
        best, size = max(
            ((known, common_prefix(known, ids)) for known in self._entries), key=lambda found: found[1], default=((), 0)
        )
        if size < MIN_TOKENS:
            return 0, []
        layers = self._entries.pop(best)
        self._entries[best] = layers
        return size, [(keys[..., :size, :], values[..., :size, :]) for keys, values in layers]

    def remember(self, ids: Sequence[int], cache: Any) -> None:
        """Keep what a transformers cache of one row holds, which must be exactly `ids`."""
        new = tuple(ids)
        if len(new) < MIN_TOKENS or new in self._entries:
            return
        layers = layers_of(cache)
        for known in [known for known in self._entries if new[: len(known)] == known]:
            del self._entries[known]
        self._entries[new] = layers
        while len(self._entries) > self._max_entries or self._bytes() > self._max_bytes:
            del self._entries[next(iter(self._entries))]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _bytes(self) -> int:
        return sum(part.nbytes for layers in self._entries.values() for pair in layers for part in pair)
