"""Inputs that are nearly the same: found exactly and without comparing all pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import ceil

from evals.leakage import normalise_input

ALIKE = 0.9
"""Jaccard similarity of the sets of words from which on two inputs are nearly the same."""
_FEWEST_WORDS = 6
"""Shorter inputs with a word changed ask something else."""


def near_pairs(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of positions whose texts share at least 90 % of their words, the earlier position first.

    Prefix filtering (Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"): with the words in order
    of rarity, two sets that are alike share one of their first `size - ceil(0.9 size) + 1` words.
    """
    sets = [frozenset(normalise_input(text).split()) for text in texts]
    frequency = Counter(word for words in sets for word in words)
    seen: dict[str, list[int]] = defaultdict(list)
    found: list[tuple[int, int]] = []
    for position, words in enumerate(sets):
        if len(words) < _FEWEST_WORDS:
            continue
        rarest = sorted(words, key=lambda word: (frequency[word], word))
        prefix = rarest[: len(words) - ceil(ALIKE * len(words)) + 1]
        candidates = {other for word in prefix for other in seen[word]}
        found += [(other, position) for other in sorted(candidates) if _alike(words, sets[other])]
        for word in prefix:
            seen[word].append(position)
    return found


def _alike(first: frozenset[str], second: frozenset[str]) -> bool:
    shorter, longer = sorted((len(first), len(second)))
    if shorter < ALIKE * longer:
        return False
    common = len(first & second)
    return common >= ALIKE * (shorter + longer - common)
