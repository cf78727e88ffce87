"""The loss of training: cross entropy of the answers' tokens, with logits only where an answer is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from backends.local.examples import Example, by_tokens
from backends.local.group import ALONE, Group

PART_TOKENS = 2048
"""Padded tokens of one forward and backward pass; a larger batch is summed over several, which bounds the memory."""

Loss = Callable[[Sequence[Example]], torch.Tensor]
"""Cross entropy summed over the answer tokens of some examples."""


def padded(examples: Sequence[Example]) -> torch.Tensor:
    """Token ids of shape (examples, longest), padded on the right, which a causal model does not see."""
    ids = torch.zeros(len(examples), max(len(example.ids) for example in examples), dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
    return ids


def summed_loss(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """Cross entropy summed over the answer tokens of some examples."""
    ids = padded(examples)
    asked = torch.zeros_like(ids, dtype=torch.bool)
    for row, example in enumerate(examples):
        # The logits at one position predict the token at the next.
        asked[row, len(example.ids) - example.answer - 1 : len(example.ids) - 1] = True
    answers = ids[asked.roll(1, dims=1)].to(model.device)
    logits = model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=asked.to(model.device)).logits
    return functional.cross_entropy(logits.float(), answers, reduction="sum")


@torch.inference_mode()
def mean_loss(loss: Loss, examples: Sequence[Example], group: Group = ALONE) -> float:
    """Loss per answer token, of which each process of the group computes its share."""
    share = group.share(sorted(examples, key=lambda example: len(example.ids)))
    total = group.total(sum(float(loss(part)) for part in by_tokens(share, PART_TOKENS)))
    return total / sum(example.answer for example in examples)
