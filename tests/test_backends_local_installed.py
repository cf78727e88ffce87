"""What lies on this machine: wheels, the hub's cache and tuned models, described from files alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from backends.local.catalog import WHEELS
from backends.local.gguf_header import gguf_facts
from backends.local.installed import in_hub_cache, in_wheels, tuned_in


def safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    """A weight file with these tensors and no weights."""
    head = json.dumps(
        {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    )
    path.write_bytes(struct.pack("<Q", len(head)) + head.encode())


def gguf(pairs: dict[str, str | int | list[int]]) -> bytes:
    """A header of texts, whole numbers and arrays of whole numbers."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    parts = [b"GGUF", struct.pack("<IQQ", 3, 0, len(pairs))]
    for key, value in pairs.items():
        parts.append(text(key))
        if isinstance(value, str):
            parts.append(struct.pack("<I", 8) + text(value))
        elif isinstance(value, int):
            parts.append(struct.pack("<II", 4, value))
        else:
            parts.append(struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value))
    return b"".join(parts)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--org--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc", encoding="utf-8")
    (snapshot / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}), encoding="utf-8")
    safetensors(snapshot / "model-1.safetensors", {"a": [100, 20], "b": [7]})
    safetensors(snapshot / "model-2.safetensors", {"c": [3, 3, 2]})
    card = "---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: none of this counts\n"
    (snapshot / "README.md").write_text(card, encoding="utf-8")
    return tmp_path / "hub"


def test_a_model_of_the_hubs_cache_is_described_from_its_files(hub: Path) -> None:
    (found,) = in_hub_cache()
    assert (found.name, found.kind, found.licence, found.context) == ("local/org/model", "chat", "apache-2.0", 4096)
    assert found.parameters == 100 * 20 + 7 + 18
    assert found.bytes > 100
    assert found.problem is None


def test_what_cannot_be_used_says_why(hub: Path) -> None:
    (hub / "models--org--broken" / "snapshots").mkdir(parents=True)
    found = {one.name: one for one in in_hub_cache()}
    assert found["local/org/broken"].problem is not None
    assert found["local/org/broken"].parameters is None


def test_a_snapshot_of_links_is_counted_once(hub: Path) -> None:
    (before,) = in_hub_cache()
    snapshot = hub / "models--org--model" / "snapshots" / "abc"
    (snapshot / "again.safetensors").symlink_to(snapshot / "model-1.safetensors")
    (after,) = in_hub_cache()
    assert after.bytes == before.bytes


def test_without_a_cache_there_is_nothing_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nowhere"))
    assert list(in_hub_cache()) == []


def test_tuned_models_are_those_whose_training_is_finished(tmp_path: Path) -> None:
    for name in ("done", "unfinished"):
        (tmp_path / name).mkdir()
        safetensors(tmp_path / name / "adapter_model.safetensors", {"lora_A": [8, 16]})
    record = {"name": "local/base+lora-12345678", "trained_tokens": 1}
    (tmp_path / "done" / "tuned.json").write_text(json.dumps(record), encoding="utf-8")
    (found,) = tuned_in(tmp_path)
    assert (found.name, found.kind, found.parameters) == ("local/base+lora-12345678", "tuned", 128)
    assert found.where == str(tmp_path / "done")


def test_wheels_that_are_installed_have_a_licence() -> None:
    found = list(in_wheels())
    assert {one.name.removeprefix("local/") for one in found} <= set(WHEELS)
    assert all(one.licence and one.parameters and one.context for one in found)


def test_a_gguf_file_tells_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    head = {"general.size_label": "135M", "general.languages": [1, 2], "llama.context_length": 8192}
    path.write_bytes(gguf({**head, "tokenizer.ggml.tokens": list(range(2000)), "after": 1}))
    assert gguf_facts(path) == {"general.size_label": "135M", "llama.context_length": 8192}


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no such file at all", gguf({"key": "text"})[:-2]])
def test_what_is_no_gguf_file_tells_nothing_wrong(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert gguf_facts(path) in ({}, {"key": "te"})
    assert gguf_facts(tmp_path / "nowhere") == {}


def test_a_damaged_weight_file_has_no_count(hub: Path) -> None:
    snapshot = hub / "models--org--model" / "snapshots" / "abc"
    for path in snapshot.glob("*.safetensors"):
        path.write_bytes(b"\xff" * 20)
    (found,) = in_hub_cache()
    assert found.parameters is None
