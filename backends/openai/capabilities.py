"""What a model at an endpoint refuses, learnt from its errors and remembered on this machine for a month.

A request that is refused is sent again without the feature that the error names; when none is named, without one
optional feature after the other. What is learnt is what made the difference: a feature counts as refused only once
the request without it was answered.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from backends.errors import BackendUnavailable
from backends.local.files import cache_folder, hash_of, make_folder, read_json, write_text
from backends.openai.endpoints import Endpoint
from backends.openai.failures import Failure

_LASTS_SECONDS = 30 * 86400.0
_FORMS = r"response_format|json_schema|json_object|json schema|schema|strict|grammar|structured"
_MENTIONS = {
    "strict": _FORMS,
    "json_schema": _FORMS,
    "json_object": _FORMS,
    "max_completion_tokens": r"max_completion_tokens",
    "max_tokens": r"\bmax_tokens",
    "logprobs": r"logprob",
    "tool_choice": r"tool_choice|tool choice",
    "tools": r"\btools?\b|function",
    "stream_options": r"stream_options|include_usage",
    "stream": r"\bstream",
    "seed": r"\bseed",
    "stop": r"\bstop\b",
    "temperature": r"temperature",
    "encoding_format": r"encoding_format|base64",
    "n": r"(?<![\\\w])n\b|n_cmpl|best_of|(number of|multiple|several) (choices|completions|answers)",
}
"""How an error names a feature; the order is that in which several named ones are dropped."""
_OPTIONAL = ("n", "stream_options", "stream", "logprobs", "tool_choice", "seed", "stop", "encoding_format")
"""Features that are tried without, one at a time, when an error names none; then forms, from strict to loose."""
_FORMS_IN_ORDER = ("strict", "json_schema", "json_object")
_MOST_ANSWERS, _OPENAI_ANSWERS = 8, 128
"""Answers that one request may ask for: what Gemini takes, the least of those known here, and what OpenAI takes."""


def kind_of(feature: str) -> str:
    """`strict` of `strict 1a2b`: some features are refused for one schema only."""
    return feature.partition(" ")[0]


class Memory:
    """What one model at one endpoint refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.refused = _recalled(path)
        """Names of features that are not sent any more."""

    def learn(self, features: frozenset[str]) -> None:
        """Remember that these are refused, now and in later runs."""
        if features <= self.refused:
            return
        self.refused |= features
        record = {"refused": sorted(self.refused), "learnt": time.time()}
        # Only a shortcut: a cache that cannot be written costs a refused request in the next run.
        with contextlib.suppress(OSError, BackendUnavailable):
            make_folder(self._path.parent)
            write_text(self._path, json.dumps(record))


def memory_of(endpoint: Endpoint, model: str) -> Memory:
    """The memory of a model, one for all who ask it in this process."""
    return _memory(cache_folder() / "capabilities" / f"{hash_of([endpoint.base_url, model])[:32]}.json")


def takes_tools(endpoint: Endpoint, refused: frozenset[str]) -> bool:
    """What the endpoint's settings say, else whether it has refused tools before."""
    told = endpoint.settings.tools
    return "tools" not in refused if told is None else told


def takes_several(endpoint: Endpoint, refused: frozenset[str]) -> bool:
    """Whether one request may ask for several answers. What is streamed is put together for one answer only."""
    return not endpoint.settings.stream and "n" not in refused


def most_answers(endpoint: Endpoint) -> int:
    """How many answers one request may ask for."""
    return _OPENAI_ANSWERS if endpoint.is_openai else _MOST_ANSWERS


class Search:
    """The way from a request that is refused to one that is taken."""

    def __init__(self, refused: frozenset[str]) -> None:
        self._known = refused
        self._named: frozenset[str] = frozenset()
        self._guess: frozenset[str] = frozenset()
        self._guessed: set[str] = set()
        self.failure: Failure | None = None
        """The first refusal: the one that says what was wrong with what was asked."""

    @property
    def without(self) -> frozenset[str]:
        """Features to leave out of the next attempt."""
        return self._known | self._named | self._guess

    @property
    def found(self) -> frozenset[str]:
        """What made the difference, once an attempt was answered."""
        return self._named | self._guess

    def refused(self, failure: Failure, sent: Sequence[str]) -> bool:
        """Take note of a refusal of a request with these features; False when there is nothing left to try."""
        self.failure = self.failure or failure
        self._guess = frozenset()
        named = blamed(failure, sent)
        if named is not None:
            # Sent and blamed again: there is nothing to put in its place.
            is_new = named not in self._named
            self._named |= {named}
            return is_new
        for feature in sent:
            if feature in _OPTIONAL and feature not in self._guessed:
                self._guessed.add(feature)
                self._guess = frozenset({feature})
                return True
        forms = [feature for feature in sent if kind_of(feature) in _FORMS_IN_ORDER]
        self._named |= set(forms)
        return bool(forms)


def blamed(failure: Failure, sent: Sequence[str]) -> str | None:
    """Which of the features that were sent an error speaks of, None when it speaks of none."""
    by_kind = {kind_of(feature): feature for feature in sent}
    if failure.parameter in by_kind:
        return by_kind[failure.parameter]
    return next(
        (by_kind[kind] for kind, mention in _MENTIONS.items() if kind in by_kind and re.search(mention, failure.said)),
        None,
    )


@functools.lru_cache(maxsize=256)
def _memory(path: Path) -> Memory:
    return Memory(path)


def _recalled(path: Path) -> frozenset[str]:
    record = read_json(path)
    try:
        is_fresh = time.time() - record["learnt"] < _LASTS_SECONDS
        return frozenset(str(feature) for feature in record["refused"]) if is_fresh else frozenset()
    except (TypeError, KeyError):
        return frozenset()
