"""GGUF to safetensors, once per machine: a later start loads in a second instead of half a minute."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from backends.errors import BackendUnavailable
from backends.local.files import cache_folder, make_folder, read_json, sha256_of, write_text
from backends.local.quiet import quiet

VERSION = 1
"""Raise it when the conversion would write something else; old results are then made anew."""

MANIFEST = "advisor_manifest.json"


def converted(gguf: Path) -> Path:
    """Folder with the file's model as safetensors in float32, tokenizer and template beside; made if it is not there.

    The folder's name holds the hash of the source. It appears whole, by one rename, so two processes may convert at
    once: the second keeps what the first has made.
    """
    folder = folder_of(gguf)
    if is_intact(folder):
        return folder
    make_folder(folder.parent)
    _sweep(folder.parent)
    try:
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
        try:
            _write(gguf, temporary)
            _install(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise BackendUnavailable(
            f"cannot convert {str(gguf)!r} into {str(folder)!r}: {error}. "
            "Set ADVISOR_CACHE to a folder with 2 GB of free space."
        ) from error
    return folder


def folder_of(gguf: Path) -> Path:
    """Where the file's model is kept once it was converted."""
    return cache_folder() / "models" / f"{gguf.stem}-{sha256_of(gguf)[:16]}-v{VERSION}"


def is_intact(folder: Path) -> bool:
    """True when every file is there with the content that was written."""
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or not manifest:
        return False
    return all((folder / name).is_file() and sha256_of(folder / name) == digest for name, digest in manifest.items())


def _write(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {
        "pretrained_model_name_or_path": gguf.parent,
        "gguf_file": gguf.name,
        "local_files_only": True,
    }
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(**source)
        loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        # The loaded model is marked as quantised and refuses to be saved; a plain one takes over its weights.
        config = type(loaded.config)(
            **{k: v for k, v in loaded.config.to_dict().items() if k not in {"quantization_config", "_name_or_path"}}
        )
        model = type(loaded)(config)
        model.load_state_dict(loaded.state_dict())
        model.tie_weights()
        model.generation_config = loaded.generation_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    names = sorted(path.name for path in folder.iterdir())
    write_text(folder / MANIFEST, json.dumps({name: sha256_of(folder / name) for name in names}, indent=1))


def _install(temporary: Path, folder: Path) -> None:
    """Rename into place; a broken folder in the way is moved aside, an intact one wins."""
    for _ in range(3):
        try:
            temporary.rename(folder)
            return
        except OSError:
            if not folder.exists():
                raise
        if is_intact(folder):
            return
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
        folder.replace(aside)
        shutil.rmtree(aside, ignore_errors=True)
    raise OSError(f"{str(folder)!r} is changed by another program all the time")


def _sweep(parent: Path) -> None:
    """Remove what a killed process left behind a day ago or earlier."""
    for leftover in parent.glob(".making-*"):
        if leftover.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(leftover, ignore_errors=True)
