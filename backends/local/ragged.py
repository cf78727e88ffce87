"""Rows of different length, packed one after another, and as the padded block that attention kernels want."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Ragged:
    """Goes between (tokens, ...) and (rows, longest, ...); rows are filled up with copies of some token."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = torch.tensor(lengths, device=device)
        self.rows, self.longest, self.tokens = len(lengths), max(lengths), sum(lengths)
        self.ends = self.lengths.cumsum(0)
        """Where each row ends in the packed tokens."""
        self._is_even = self.rows * self.longest == self.tokens
        place = torch.arange(self.longest, device=device)
        starts = self.ends - self.lengths
        is_real = place < self.lengths[:, None]
        self._source = (starts[:, None] + place.clamp(max=self.longest)).where(is_real, 0).flatten()
        self._real = is_real.flatten().nonzero().flatten()
        self.row = torch.repeat_interleave(torch.arange(self.rows, device=device), self.lengths)
        """The row of each packed token."""
        self.place = self._real % self.longest
        """The place of each packed token in its row."""

    def padded(self, packed: torch.Tensor) -> torch.Tensor:
        """Shape (tokens, ...) to (rows, longest, ...)."""
        filled = packed if self._is_even else packed.index_select(0, self._source)
        return filled.reshape(self.rows, self.longest, *packed.shape[1:])

    def packed(self, padded: torch.Tensor) -> torch.Tensor:
        """Shape (rows, longest, ...) to (tokens, ...)."""
        flat = padded.reshape(self.rows * self.longest, *padded.shape[2:])
        return flat if self._is_even else flat.index_select(0, self._real)
