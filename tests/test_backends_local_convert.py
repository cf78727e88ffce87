import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.errors import BackendUnavailable
from backends.local import convert
from backends.local.files import sha256_of


@pytest.fixture(autouse=True)
def cheap(tmp_path, monkeypatch):
    """A conversion that writes two small files and counts its calls."""
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "cache"))
    calls = []

    def write(gguf, folder):
        calls.append(folder)
        (folder / "model.safetensors").write_bytes(gguf.read_bytes().upper())
        (folder / "config.json").write_text("{}", encoding="utf-8")
        manifest = {path.name: sha256_of(path) for path in folder.iterdir()}
        convert.write_text(folder / convert.MANIFEST, convert.json.dumps(manifest))

    monkeypatch.setattr(convert, "_write", write)
    return calls


@pytest.fixture
def gguf(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    return path


def test_a_file_is_converted_once(gguf, cheap):
    folder = convert.converted(gguf)
    assert (folder / "model.safetensors").read_bytes() == b"WEIGHTS"
    assert convert.converted(gguf) == folder
    assert len(cheap) == 1


def test_another_content_is_another_model(gguf, cheap):
    first = convert.converted(gguf)
    stamp = gguf.stat()
    gguf.write_bytes(b"WEIGHTS")
    os.utime(gguf, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert convert.converted(gguf) != first


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "no manifest"])
def test_a_broken_cache_is_made_again(gguf, cheap, damage):
    folder = convert.converted(gguf)
    weights = folder / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(b"WEIG")
    elif damage == "changed":
        weights.write_bytes(b"WEIGHTZ")
    else:
        (folder / convert.MANIFEST).write_text("{", encoding="utf-8")
    assert (convert.converted(gguf) / "model.safetensors").read_bytes() == b"WEIGHTS"
    assert len(cheap) == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_two_at_once_end_with_one_whole_folder(gguf, monkeypatch):
    write = convert._write

    def slow(path, folder):
        write(path, folder)
        time.sleep(0.05)

    monkeypatch.setattr(convert, "_write", slow)
    with ThreadPoolExecutor(4) as pool:
        folders = {f.result() for f in [pool.submit(convert.converted, gguf) for _ in range(4)]}
    (folder,) = folders
    assert convert.is_intact(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_conversion_that_dies_leaves_no_model(gguf, cheap, monkeypatch):
    monkeypatch.setattr(convert, "_write", lambda gguf, folder: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(BackendUnavailable, match=r"No space left.*ADVISOR_CACHE"):
        convert.converted(gguf)
    assert list((convert.cache_folder() / "models").iterdir()) == []


def test_leftovers_of_killed_processes_are_swept(gguf, cheap):
    parent = convert.cache_folder() / "models"
    for name, age in (("old", 2 * 86_400), ("new", 60)):
        leftover = parent / f".making-{name}"
        leftover.mkdir(parents=True)
        os.utime(leftover, (time.time() - age,) * 2)
    convert.converted(gguf)
    assert sorted(path.name for path in parent.iterdir() if path.name.startswith(".")) == [".making-new"]


def test_a_cache_folder_that_cannot_be_made_says_what_to_set(gguf, tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("", encoding="utf-8")
    monkeypatch.setenv("ADVISOR_CACHE", str(tmp_path / "blocked"))
    with pytest.raises(BackendUnavailable, match="Set ADVISOR_CACHE"):
        convert.converted(gguf)
