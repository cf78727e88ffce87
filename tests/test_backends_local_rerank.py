"""A local cross-encoder, here a tiny one with random weights; and the scripted one."""

import asyncio
import json

import pytest

from backends.errors import BackendUnavailable, InputError
from backends.local.rerank import LocalReranker
from backends.scripted_rerank import ScriptedReranker

from .local_models import own_cache, save_model, tiny_tokenizer  # noqa: F401

TEXTS = ["The match was lost.", "This soup tastes odd, and the band plays again on Monday.", "My knee hurts."]


def save_cross_encoder(folder, labels=1):
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from backends.local.quiet import quiet

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(
        vocab_size=416, **shape, max_position_embeddings=64, num_labels=labels, pad_token_id=2, initializer_range=0.5
    )
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(1)
        BertForSequenceClassification(config).eval().save_pretrained(folder)
        tokenizer = tiny_tokenizer(template=False)
        tokenizer.model_max_length = 64
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_cross_encoder(tmp_path_factory.mktemp("ranker"))


@pytest.fixture
async def reranker(folder):
    model = LocalReranker.open(f"local/{folder}", usd_per_hour=3.6)
    yield model
    await model.aclose()


async def test_scores_follow_the_order_of_the_texts(reranker):
    found = await reranker.rerank("Which band plays?", TEXTS)
    assert len(found.scores) == 3
    assert len(set(found.scores)) == 3
    turned, again = await asyncio.gather(
        reranker.rerank("Which band plays?", TEXTS[::-1]), reranker.rerank("Which band plays?", TEXTS)
    )
    assert turned.scores[::-1] == pytest.approx(found.scores, abs=1e-5)
    assert again.scores == found.scores
    assert (await reranker.rerank("Who lost?", TEXTS)).scores != found.scores


async def test_usage_counts_what_is_read_and_is_priced(reranker):
    short, long = await reranker.rerank("knee", ["soup"]), await reranker.rerank("knee", ["soup " * 1000])
    assert 0 < short.usage.input_tokens < long.usage.input_tokens == 64
    assert (long.usage.requests, long.usage.output_tokens) == (1, 0)
    assert long.usage.cost_usd == pytest.approx(64 / reranker.rates.prefill * 3.6 / 3600)
    assert long.seconds == pytest.approx(64 / reranker.rates.prefill)
    nothing = await reranker.rerank("knee", [])
    assert (nothing.scores, nothing.usage.input_tokens) == ((), 0)


async def test_a_closed_model_says_so(folder):
    model = LocalReranker.open(f"local/{folder}")
    await model.aclose()
    with pytest.raises(BackendUnavailable, match="closed"):
        await model.rerank("x", ["x"])
    assert model.fingerprint == LocalReranker.open(f"local/{folder}").fingerprint


def test_a_model_that_was_not_trained_to_rank_is_refused(tmp_path):
    save_model(tmp_path / "chat")
    with pytest.raises(InputError, match="no cross-encoder"):
        LocalReranker.open(f"local/{tmp_path / 'chat'}")
    embedder = save_cross_encoder(tmp_path / "embedder")
    (embedder / "modules.json").write_text("[]", "utf-8")
    with pytest.raises(InputError, match="no cross-encoder"):
        LocalReranker.open(f"local/{embedder}")
    (embedder / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "CrossEncoder"}), "utf-8")
    assert LocalReranker.open(f"local/{embedder}").name.endswith("embedder")


async def test_a_classifier_of_several_labels_is_refused(tmp_path):
    model = LocalReranker.open(f"local/{save_cross_encoder(tmp_path, labels=3)}")
    with pytest.raises(InputError, match="3 figures for a pair"):
        await model.rerank("x", ["x"])
    await model.aclose()


async def test_the_scripted_one_counts_common_words():
    model = ScriptedReranker.open("scripted/words")
    found = await model.rerank("red green", ["Green leaves", "red and green", "blue"])
    assert found.scores == (0.5, 1.0, 0.0)
    assert (found.usage.requests, found.usage.input_tokens) == (1, 2 * 3 + 6)
    assert found.usage.cost_usd == pytest.approx(12 * 0.1 / 1e6)
