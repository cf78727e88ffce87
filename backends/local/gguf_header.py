"""What a GGUF file says of itself, read from its first bytes without any package.

Source: github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3; little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONGEST = 1 << 20
"""Bytes of a text: more is a damaged file."""
_LONG_ARRAY = 1000


def gguf_facts(path: Path) -> Mapping[str, Any]:
    """The single values of the header by key, as `general.size_label`; empty for what is no GGUF file. Skips arrays."""
    try:
        with path.open("rb") as file:
            return _facts(file)
    except (OSError, ValueError, struct.error):
        return {}


def _facts(file: BinaryIO) -> dict[str, Any]:
    if file.read(4) != b"GGUF":
        return {}
    _version, _tensors, pairs = struct.unpack("<IQQ", file.read(20))
    found: dict[str, Any] = {}
    for _ in range(pairs):
        key = _text(file)
        kind = _number(file, "<I")
        if kind == _ARRAY:
            if not _skipped_array(file):
                break
        else:
            found[key] = _value(file, kind)
    return found


def _skipped_array(file: BinaryIO) -> bool:
    """Pass over a short array; a long one holds the tokenizer's words, and nothing of interest comes after it."""
    kind, count = _number(file, "<I"), _number(file, "<Q")
    if count > _LONG_ARRAY:
        return False
    for _ in range(count):
        _value(file, kind)
    return True


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind not in _NUMBERS:
        raise ValueError(f"no value is of kind {kind}")
    return _number(file, _NUMBERS[kind])


def _text(file: BinaryIO) -> str:
    length = _number(file, "<Q")
    if length > _LONGEST:
        raise ValueError("no text is that long")
    return file.read(length).decode("utf-8", "replace")


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
