"""A cross-encoder that counts common words: deterministic, instant, no packages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backends.types import Reranking, Usage


class ScriptedReranker:
    """Scores a text by the share of the query's words that it holds. Tokens are words; seconds are tokens / 10,000."""

    def __init__(self, name: str = "scripted/words") -> None:
        self.name = name
        self.fingerprint = f"{name}:overlap"

    @classmethod
    def open(cls, name: str, *, usd_per_hour: float | None = None) -> ScriptedReranker:
        """Open `scripted/words`."""
        return cls(name)

    def price(self, usage: Usage) -> float | None:
        """A tenth of a dollar per million words."""
        return usage.input_tokens * 0.1 / 1e6

    async def rerank(self, query: str, texts: Sequence[str]) -> Reranking:
        """Score the texts, in order."""
        wanted = set(_words(query))
        scores = tuple(len(wanted & set(_words(text))) / max(1, len(wanted)) for text in texts)
        tokens = sum(len(_words(query)) + len(_words(text)) for text in texts)
        usage = Usage(1, tokens, cost_usd=self.price(Usage(1, tokens)))
        return Reranking(scores, usage, seconds=tokens / 10_000)

    async def aclose(self) -> None:
        """Nothing to let go of."""


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
