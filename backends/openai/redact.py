"""Keeps keys out of everything that people or files get to see."""

from __future__ import annotations

import re

_LOOKS_LIKE_KEY = re.compile(
    r"\b(?:sk|pk|rk|gsk|hf|xai|nvapi)[-_][A-Za-z0-9_*.\-]{6,}"
    r"|\bAIza[0-9A-Za-z_*\-]{10,}"
    r"|(?<=[Bb]earer )[^\s'\",]{8,}"
    r"|(?<=[Kk]ey provided: )[^\s'\",]+"
)
_HIDDEN = "[key]"
_LONGEST = 400
_SHORTEST = 4
"""A shorter key would tear words apart and is no secret."""


def redact(text: str, *keys: str) -> str:
    """The text in one line with these keys, and whatever looks like one, replaced by `[key]`; long texts are cut."""
    for key in keys:
        if len(key) >= _SHORTEST:
            text = text.replace(key, _HIDDEN)
    flat = " ".join(_LOOKS_LIKE_KEY.sub(_HIDDEN, text).split())
    return flat if len(flat) <= _LONGEST else f"{flat[:_LONGEST]}..."


def without_key(content: bytes, key: str) -> bytes:
    """What an endpoint sent, without the key that it was sent: some echo a request's headers into their answers."""
    return content.replace(key.encode(), _HIDDEN.encode()) if len(key) >= _SHORTEST else content
