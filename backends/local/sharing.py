"""Whether a model's rows may share a prefix and be padded: looked up in its cache, then tried on a few tokens."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from backends.local.prefixes import layers_of, repeated


def forward(model: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
    """Logits in float32 after the last token of each row; the cache grows by `ids`."""
    # A mask rather than `logits_to_keep=1`: rows sliced out of a longer tensor would be multiplied one by one.
    last = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    last[:, -1] = True
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last,
    )
    logits: torch.Tensor = output.logits.float()
    return logits


def can_share(model: PreTrainedModel) -> bool:
    """True when a repeated prefix and left padding leave the logits of each row as they are alone."""
    # Sliding windows count padding as distance, and recurrent states cannot be cut at a prefix.
    plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    return plain and _is_harmless(model)


@torch.inference_mode()
def _is_harmless(model: Any) -> bool:
    """Compare two rows of different length, sharing a prefix, with the same rows alone."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    prefix = (torch.arange(4) * 53 + 7) % vocabulary
    long, short = [(torch.arange(size) * 37 + size + 11) % vocabulary for size in (9, 5)]
    alone = [
        model(input_ids=torch.cat([prefix, own])[None].to(model.device)).logits[0, -1].float() for own in (long, short)
    ]
    cache = DynamicCache(config=model.config)
    start = torch.arange(4, device=model.device)[None]
    forward(model, prefix[None].to(model.device), torch.ones_like(start), start, cache)
    mask = torch.ones(2, 13, dtype=torch.long, device=model.device)
    mask[1, 4:8] = 0
    ids = torch.stack([long, torch.cat([torch.zeros(4, dtype=torch.long), short])]).to(model.device)
    together = forward(model, ids, mask, (mask.cumsum(dim=1) - 1)[:, 4:], repeated(layers_of(cache), 2))
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.1
    return all(
        bool((one - both).abs().max() <= tolerance * one.std()) for one, both in zip(alone, together, strict=True)
    )
