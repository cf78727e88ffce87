"""What makes a local model's answers what they are, as a hash; imports nothing heavy."""

from __future__ import annotations

from importlib import metadata

from backends.local import convert
from backends.local.catalog import Place
from backends.local.files import hash_of, sha256_of

_CONTENT = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*/config.json")
_NOT_CONTENT = {"tuned.json", "README.md", convert.MANIFEST}


def content_hash(place: Place) -> str:
    """Hash of weights, tokenizer, template and configuration: the same on every machine."""
    gguf = place.is_gguf
    base = {"gguf": sha256_of(place.path), "conversion": str(convert.VERSION)} if gguf else _folder(place)
    adapter = _folder(Place(place.adapter)) if place.adapter else {}
    return hash_of({"base": base, "adapter": adapter})


def fingerprint(place: Place, dtype: str, *packages: str) -> str:
    """Everything that can change an answer: content, precision and the versions of torch and what is named beside."""
    versions = {package: metadata.version(package) for package in ("torch", "transformers", *packages)}
    return hash_of({"content": content_hash(place), "dtype": dtype, "versions": versions})[:32]


def _folder(place: Place) -> dict[str, str]:
    files = {file for pattern in _CONTENT for file in place.path.glob(pattern) if file.name not in _NOT_CONTENT}
    return {str(file.relative_to(place.path)): sha256_of(file) for file in sorted(files)}
