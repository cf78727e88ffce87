"""What the decoder asks of a way of running rows together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch


class Rows(Protocol):
    """The rows of one running batch: what the model has computed of each."""

    @property
    def can_join(self) -> bool:
        """Whether rows may be added while others run."""

    @property
    def takes_many(self) -> bool:
        """Whether several tokens may be added to a row at once."""

    def admit(self, prompts: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Compute prompts and add them as rows; logits of shape (prompts, vocabulary) after their last tokens."""

    def extend(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Add tokens to every row; logits of shape (rows, vocabulary) after each row's last, in float32."""

    def keep(self, rows: Sequence[int]) -> None:
        """Let go of all rows but these."""
