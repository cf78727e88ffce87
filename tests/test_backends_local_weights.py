import pytest
import torch
from torch import nn

from backends.local.heap import keep_freed_memory
from backends.local.memory import batch_limits
from backends.local.weights import pack

from .local_models import tiny_model


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.06)])
def test_a_model_computes_the_same_with_its_weights_laid_out(dtype, tolerance):
    model = tiny_model(tie_word_embeddings=True).to(dtype)
    ids = torch.arange(3, 40).view(1, -1)
    with torch.inference_mode():
        before = model(ids).logits.float()
        pack(model)
        after = model(ids).logits.float()
    assert float((after - before).std() / before.std()) < tolerance
    # Processors without the instructions for bfloat16 keep plain layers.
    is_laid_out = dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert any(type(module) is nn.Linear for module in model.modules()) is not is_laid_out


def test_biases_are_added_and_any_shape_goes_through():
    linear = nn.Linear(24, 10)
    model = nn.Sequential(linear)
    inputs = torch.randn(2, 3, 24)
    with torch.inference_mode():
        before = model(inputs)
        pack(model)
        assert torch.allclose(model(inputs), before, atol=1e-5)
        assert torch.allclose(model(inputs[0, 0]), before[0, 0], atol=1e-5)


def test_plain_weights_are_freed_unless_something_else_uses_them():
    model = tiny_model(tie_word_embeddings=True)
    pack(model)
    assert model.model.layers[0].mlp.up_proj.weight.is_meta
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.lm_head.weight.is_meta
    assert model.device.type == "cpu"


def test_what_cannot_be_laid_out_is_left_as_it_is():
    model = nn.Sequential(nn.Linear(4, 4, dtype=torch.float64))
    pack(model)
    assert type(model[0]) is nn.Linear


def test_keeping_freed_memory_is_harmless_without_glibc(monkeypatch):
    keep_freed_memory()
    monkeypatch.setattr("ctypes.CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    keep_freed_memory()


def test_limits_follow_the_memory_of_a_token():
    small, large = tiny_model(), tiny_model(num_hidden_layers=4)
    assert batch_limits(small).held_tokens == pytest.approx(2 * batch_limits(large).held_tokens, abs=2)
    assert batch_limits(small, joining=True).rows > batch_limits(small).rows
