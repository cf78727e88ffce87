import pytest
import torch

from backends.local import frozen, loss
from backends.local.adapters import layer_list, trainable, with_adapter
from backends.local.examples import Example
from backends.local.frozen import Frozen
from backends.local.recipe import Recipe

from .local_models import tiny_model


def upper(kind="llama", layers="last_2", **changes):
    """A model of four layers with an adapter on the upper ones, some examples and the first layer that learns."""
    depth = {"n_layer": 4, "num_hidden_layers": 4} if kind in {"gpt2", "alibi"} else {"num_hidden_layers": 4}
    recipe = Recipe(rank=4, alpha=4, layers=layers)
    model = with_adapter(tiny_model(kind, **(depth | changes)), recipe, 0)
    for name, parameter in trainable(model).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    examples = [
        Example(tuple(torch.randint(3, 400, (size,), generator=generator).tolist()), 3)
        for size in (5, 12, 12, 20, 31, 7)
    ]
    return model, examples, recipe.first_layer(4)


def gradients(model, examples):
    model.zero_grad()
    found = loss.summed_loss(model, examples)
    found.backward()
    return found.item(), {name: parameter.grad.clone() for name, parameter in trainable(model).items()}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "sliding"])
@pytest.mark.parametrize("memory", [None, 0])
def test_the_loss_and_its_gradients_are_those_of_the_whole_model(kind, memory, tmp_path):
    model, examples, first = upper(kind)
    part = [examples[i] for i in (4, 0, 2)]
    expected, whole = gradients(model, part)
    remembered = Frozen.of(model, first, examples, folder=tmp_path, memory=memory)
    assert remembered is not None
    with remembered.feed(part):
        found, stepped = gradients(model, part)
    assert found == pytest.approx(expected, rel=1e-5)
    assert all(torch.allclose(stepped[name], whole[name], rtol=1e-4, atol=1e-5) for name in whole)
    assert (tmp_path / frozen.FILE).exists() == (memory == 0)
    frozen.forget(tmp_path)
    assert not (tmp_path / frozen.FILE).exists()
    assert gradients(model, part)[0] == expected


def test_only_the_layers_that_learn_have_an_adapter_and_only_they_are_computed(tmp_path):
    model, examples, first = upper()
    assert {name.split(".layers.")[1].split(".")[0] for name in trainable(model)} == {"2", "3"}
    remembered = Frozen.of(model, first, examples, folder=tmp_path)
    calls = []
    for index, layer in enumerate(layer_list(model)):
        layer.self_attn.register_forward_hook(lambda *_, index=index: calls.append(index))
    with remembered.feed(examples):
        loss.summed_loss(model, examples)
    assert calls == [2, 3]


def test_a_model_whose_layers_give_more_than_hidden_states_is_computed_whole(tmp_path):
    model, examples, first = upper("alibi")
    assert Frozen.of(model, first, examples, folder=tmp_path) is None


def test_a_model_whose_layers_are_no_plain_chain_is_computed_whole(tmp_path):
    model, examples, first = upper()
    heard = {}
    layers = layer_list(model)
    layers[0].self_attn.register_forward_hook(lambda module, args, output: heard.update(states=output[0]))
    layers[3].register_forward_hook(lambda module, args, output: output + heard.pop("states").mean())
    assert Frozen.of(model, first, examples, folder=tmp_path) is None


def test_a_disk_too_small_for_the_hidden_states_is_an_error_and_not_a_crash(tmp_path, monkeypatch):
    model, examples, first = upper()

    def full(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frozen.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Frozen.of(model, first, examples, folder=tmp_path, memory=0)
