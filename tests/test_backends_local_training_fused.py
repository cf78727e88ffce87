import copy

import pytest
import torch
import transformers

from backends.local import fused, loss, short_attention
from backends.local.adapters import trainable, with_adapter
from backends.local.examples import Example
from backends.local.recipe import Recipe
from backends.local.training import precision

from .local_models import tiny_model

EXAMPLES = [Example(tuple(range(3, 3 + size)), 4) for size in (9, 24, 24)]


def adapted(kind="llama", **options):
    model = with_adapter(tiny_model(kind), Recipe(rank=4, alpha=8, **options), 0)
    for name, parameter in trainable(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    return model


def gradients(model):
    model.zero_grad()
    found = loss.summed_loss(model, EXAMPLES)
    found.backward()
    return found.item(), torch.cat([parameter.grad.flatten() for parameter in trainable(model).values()])


def test_a_fused_layer_is_pefts_up_to_rounding():
    plain, quick = adapted(), adapted()
    assert fused.fuse(quick)
    assert list(plain.state_dict()) == list(quick.state_dict())
    expected, found = gradients(plain), gradients(quick)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert torch.allclose(found[1], expected[1], rtol=1e-4, atol=1e-4)


def test_in_bfloat16_it_is_no_further_from_float32_than_pefts_is():
    exact = adapted()
    plain, quick = copy.deepcopy(exact).to(torch.bfloat16), copy.deepcopy(exact).to(torch.bfloat16)
    for model in (plain, quick):
        for name, parameter in trainable(model).items():
            parameter.data = trainable(exact)[name].data.clone()
    assert fused.fuse(quick)
    expected = gradients(exact)[1]
    with precision(plain, mixed=True):
        peft = gradients(plain)[1]
    ours = gradients(quick)[1]
    assert (ours - expected).norm() < 1.2 * (peft - expected).norm()
    assert (ours - expected).norm() < 0.3 * expected.norm()


def test_what_is_not_plain_lora_keeps_pefts_way():
    assert not fused.fuse(adapted(dora=True))
    assert not fused.fuse(adapted(dropout=0.1))
    assert not fused.fuse(adapted("gpt2"))
    assert not fused.fuse(tiny_model())


@pytest.mark.parametrize(("tokens", "heads"), [(1, 2), (7, 4), (40, 2)])
def test_short_attention_is_torchs(tokens, heads):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 4, tokens, 16, generator=generator).requires_grad_()
    key, value = (torch.randn(3, heads, tokens, 16, generator=generator).requires_grad_() for _ in range(2))
    upstream = torch.randn(3, 4, tokens, 16, generator=generator)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    found = short_attention._causal(query, key, value, 0.25)
    assert torch.allclose(found, expected, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(found, (query, key, value), upstream),
        torch.autograd.grad(expected, (query, key, value), upstream),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-4)


def used(monkeypatch, kind, examples=EXAMPLES, **changes):
    """How often the short attention computes in a pass, and whether the loss is as without it."""
    model = with_adapter(tiny_model(kind, **changes).to(torch.bfloat16), Recipe(rank=4, alpha=8), 0)
    with torch.no_grad(), precision(model, mixed=True):
        expected = loss.summed_loss(model, examples).item()
        calls, honest = [], short_attention._causal
        monkeypatch.setattr(short_attention, "_causal", lambda *args: calls.append(1) or honest(*args))
        before = model.config._attn_implementation
        with short_attention.short_attention(model):
            found = loss.summed_loss(model, examples).item()
    assert model.config._attn_implementation == before
    assert found == pytest.approx(expected, rel=0.05)
    return len(calls)


def test_it_serves_every_layer_of_a_causal_model_in_bfloat16(monkeypatch):
    assert used(monkeypatch, "llama") == 2


def test_what_it_cannot_do_is_left_to_transformers(monkeypatch):
    # A window shorter than the samples needs a mask; Bloom has an attention of its own.
    assert used(monkeypatch, "sliding") == 0
    assert used(monkeypatch, "alibi") == 0
    monkeypatch.setattr(short_attention, "_LONGEST", 10)
    assert used(monkeypatch, "llama") == 0
    assert transformers.AttentionInterface._global_mapping[short_attention.NAME] is short_attention.attend
