"""A tuned model answers alike as adapter, merged, and merged, saved and loaded; and the check can tell when not."""

from __future__ import annotations

import pytest
import torch

from backends.local import parity as parity_module
from backends.local.tune import LocalTuner
from backends.types import ChatRequest, Message

from .local_models import own_cache, tiny, tiny_model  # noqa: F401
from .test_backends_local_tune import job

REQUESTS = [
    ChatRequest((Message("user", f"my {word} {n}"),), max_tokens=6) for n in range(3) for word in ("knee", "match")
]


async def checked(base, folder):
    tuner = LocalTuner(usd_per_hour=3.6)
    model = await tuner.tune(job(base, folder))
    return await tuner.parity(f"local/{base}", model, REQUESTS)


async def test_all_forms_answer_alike(tiny, tmp_path):  # noqa: F811
    found = await checked(tiny, tmp_path / "a")
    assert (found.prompts, found.differing, found.forms) == (6, 0, ("adapter", "merged", "saved"))
    assert 0 <= found.largest_logit_difference < 1e-3


async def test_a_form_that_answers_otherwise_is_found(tiny, tmp_path, monkeypatch):  # noqa: F811
    opened = []
    original = parity_module._opened

    def spoilt(folder):
        model = original(folder)
        if opened:
            with torch.no_grad():
                model.lm_head.weight.copy_(tiny_model(seed=7).lm_head.weight)
        opened.append(folder)
        return model

    monkeypatch.setattr(parity_module, "_opened", spoilt)
    found = await checked(tiny, tmp_path / "a")
    assert len(opened) == 2
    assert found.differing > 0
    assert found.largest_logit_difference > 1e-2


@pytest.mark.slow
async def test_the_default_model_answers_alike_on_a_hundred_prompts(tmp_path, monkeypatch):
    monkeypatch.delenv("ADVISOR_CACHE", raising=False)
    tuner = LocalTuner(usd_per_hour=3.6)
    recipe = {"epochs": 1, "rank": 8, "dtype": "float32"}
    model = await tuner.tune(job("smollm2-135m", tmp_path / "a", recipe=recipe))
    asked = [
        ChatRequest((Message("user", f"Sort my message number {n} about a knee."),), max_tokens=8) for n in range(100)
    ]
    found = await tuner.parity("local/smollm2-135m", model, asked)
    assert (found.prompts, found.differing) == (100, 0)
