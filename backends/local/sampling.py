"""From logits to one token."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedModel


def pick(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    """Sample a token at this temperature.

    By inverting the cumulative distribution in float64 with one random number, so that what batch mates do to the last
    bits of the logits practically never changes the token.
    """
    weights = torch.softmax(logits.double() / temperature, dim=0).cumsum(dim=0)
    point = torch.rand(1, generator=generator, dtype=torch.float64).to(weights.device) * weights[-1]
    return int(torch.searchsorted(weights, point, right=True).clamp(max=len(weights) - 1))


def logprob(logits: torch.Tensor, token: int) -> float:
    """Natural logarithm of the token's probability; tokens with a logit of minus infinity are out of the question."""
    return float(torch.log_softmax(logits.double(), dim=0)[token])


def repetition_penalty(model: PreTrainedModel) -> Callable[[torch.Tensor, torch.Tensor], None] | None:
    """What the model's generation settings do to tokens that came before, as a function of (ids, logits in place)."""
    penalty = getattr(model.generation_config, "repetition_penalty", None)
    if not penalty or penalty == 1.0:
        return None

    def apply(ids: torch.Tensor, logits: torch.Tensor) -> None:
        seen = torch.unique(ids)
        scores = logits[seen]
        logits[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)

    return apply
