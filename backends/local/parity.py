"""Does a tuned model answer alike in every form it may be deployed in: adapter, merged, merged and saved and loaded.

Merging adds B A to each weight once instead of adding B (A x) at each step; the sums round differently, so logits
differ in their last digits and, rarely, an answer does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from backends.local.catalog import locate
from backends.local.convert import converted
from backends.local.prompts import Prompts
from backends.local.quiet import peft_quiet, quiet
from backends.types import ChatRequest, Parity, TunedModel

FORMS = ("adapter", "merged", "saved")
_LONGEST_ANSWER = 64


def parity(base: str, tuned: TunedModel, requests: Sequence[ChatRequest]) -> Parity:
    """Answer the requests greedily, unconstrained and in float32, with each form, and compare with the adapter's.

    One form is in memory at a time. Raises InputError when the base or the adapter cannot be found.
    """
    place = locate(base)
    folder = converted(place.path) if place.is_gguf else place.path
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    prompts = Prompts(tuned.name, tokenizer, (tokenizer.eos_token_id,))
    asked = [(torch.tensor([prompts.encode(r.messages)]), min(r.max_tokens, _LONGEST_ANSWER)) for r in requests]
    with tempfile.TemporaryDirectory() as temporary:
        adapter = _opened(str(folder))
        with peft_quiet():
            from peft import PeftModel

            adapter = PeftModel.from_pretrained(adapter, str(tuned.folder)).eval()
        answers = [_greedy(adapter, ids, limit) for ids, limit in asked]
        reference = [_logits(adapter, answer) for answer in answers]
        with peft_quiet():
            merged: Any = adapter.merge_and_unload()
        differing, largest = _compared(merged, asked, answers, reference)
        with quiet():
            merged.save_pretrained(temporary, safe_serialization=True)
        del adapter, merged
        found = _compared(_opened(temporary), asked, answers, reference)
    return Parity(len(asked), differing + found[0], max(largest, found[1]), FORMS)


def _opened(folder: str) -> Any:
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    return model.eval()


def _compared(
    model: Any,
    asked: Sequence[tuple[torch.Tensor, int]],
    answers: Sequence[torch.Tensor],
    reference: Sequence[torch.Tensor],
) -> tuple[int, float]:
    """Answers that differ from the adapter's, and the largest difference of a logit along the adapter's answers."""
    differing = sum(
        not torch.equal(_greedy(model, ids, limit), answer) for (ids, limit), answer in zip(asked, answers, strict=True)
    )
    apart = [
        float((_logits(model, answer) - before).abs().max()) for answer, before in zip(answers, reference, strict=True)
    ]
    return differing, max(apart, default=0.0)


@torch.inference_mode()
def _greedy(model: Any, ids: torch.Tensor, limit: int) -> torch.Tensor:
    """Prompt and greedy answer, shape (1, tokens)."""
    found: torch.Tensor = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=limit,
        do_sample=False,
        pad_token_id=int(model.config.eos_token_id or 0),
    )
    return found


@torch.inference_mode()
def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits at every position, shape (tokens, vocabulary)."""
    found: torch.Tensor = model(input_ids=ids).logits[0]
    return found
