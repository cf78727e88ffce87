"""What a training leaves opens with other people's tools, by what lies in its folder alone."""

from __future__ import annotations

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from backends.local.quiet import peft_quiet
from backends.local.tune import LocalTuner

from .local_models import own_cache, tiny  # noqa: F401
from .test_backends_local_tune import job

LORA = {"rank": 4, "epochs": 2, "batch_size": 4, "learning_rate": 0.02, "dtype": "float32"}
FULL = {"method": "full", "epochs": 2, "batch_size": 4, "learning_rate": 0.002, "dtype": "float32"}


def files(folder):
    return {path.name for path in folder.iterdir()}


def pickled(folder):
    return {name for name in files(folder) if name.endswith((".bin", ".pt", ".pth", ".pkl", ".pickle"))}


@torch.inference_mode()
def logits(model, tokenizer):
    asked = [{"role": "user", "content": "my knee 3"}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    return model.eval()(**ids).logits


async def test_an_adapter_finds_its_base_in_plain_peft_and_merges_into_a_plain_model(tiny, tmp_path):  # noqa: F811
    await LocalTuner().tune(job(tiny, tmp_path / "a", recipe=LORA))
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    with peft_quiet():
        adapter = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "a")
        asked = logits(adapter, tokenizer)
        adapter.merge_and_unload().save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    found = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), tokenizer)
    before = logits(AutoModelForCausalLM.from_pretrained(tiny), tokenizer)
    assert torch.allclose(found, asked, atol=1e-4)
    assert not torch.allclose(found, before, atol=1e-2)
    assert servable(tmp_path / "merged")


@pytest.mark.parametrize("options", [{}, {"layers": "last_1"}, {"targets": ["q_proj", "v_proj"], "rslora": True}])
async def test_an_adapter_has_what_a_server_reads_of_it(tiny, tmp_path, options):  # noqa: F811
    await LocalTuner().tune(job(tiny, tmp_path / "a", recipe=LORA | options))
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text("utf-8"))
    # vLLM refuses biases, modules trained whole, and DoRA.
    assert (config["peft_type"], config["r"], config["bias"]) == ("LORA", 4, "none")
    assert not config["modules_to_save"]
    assert not config["use_dora"]
    with safe_open(tmp_path / "a" / "adapter_model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert names
    for name in names:
        module, _, part = name.rpartition(".lora_")
        assert part in {"A.weight", "B.weight"}
        assert module.startswith("base_model.model.model.layers.")
        assert module.rpartition(".")[2] in config["target_modules"]
    assert not pickled(tmp_path / "a")


def servable(folder):
    """Whether the folder has what vLLM and transformers need to chat with it."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"} <= files(folder)
    assert not pickled(folder)
    assert AutoTokenizer.from_pretrained(folder).chat_template
    return True


async def test_a_fully_tuned_model_has_what_a_server_reads(tiny, tmp_path):  # noqa: F811
    await LocalTuner().tune(job(tiny, tmp_path / "a", recipe=FULL))
    assert servable(tmp_path / "a")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    model, reported = AutoModelForCausalLM.from_pretrained(tmp_path / "a", output_loading_info=True)
    assert not any(reported.values())
    assert logits(model, tokenizer).isfinite().all()
