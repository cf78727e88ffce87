"""Which prompts run together: those that share a prefix, of like length, within limits. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PASS_TOKENS = 64
"""What one more forward pass costs beside its tokens, in tokens; keeps groups from falling apart."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may hold."""

    rows: int = 32
    held_tokens: int = 65_536
    """Keys and values in memory: rows times (prompt + answer)."""
    computed_tokens: int = 16_384
    """Tokens of one prefill pass, padding counted; a single longer prompt is its own batch."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What planning needs to know of a request."""

    ids: tuple[int, ...]
    limit: int
    """Most tokens the answer can have."""


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    left, right = tuple(left), tuple(right)
    low, high = 0, min(len(left), len(right))
    # By halves, since whole slices are compared much faster than their tokens one by one.
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def shared_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all begin with, leaving each at least one of its own."""
    # The lexicographic extremes differ earliest.
    first, last = min(prompts), max(prompts)
    return min(common_prefix(first, last), min(map(len, prompts)) - 1)


def plan(prompts: Sequence[Prompt], limits: Limits, *, padded: bool = True) -> list[list[int]]:
    """Cut prompts into batches; returns indices.

    Args:
        prompts: What waits.
        limits: What one batch may hold.
        padded: False for models whose rows must have one length (no padding, no shared prefix).
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i].ids, i))
    families = _families([prompts[i].ids for i in order]) if padded else [len(order)]
    batches: list[list[int]] = []
    start = 0
    for size in families:
        members = sorted(order[start : start + size], key=lambda i: (len(prompts[i].ids), prompts[i].ids, i))
        batches.extend(_cut(members, prompts, limits, padded))
        start += size
    return batches


def _families(ordered: Sequence[Sequence[int]]) -> list[int]:
    """Sizes of runs of prompts that are cheaper computed together, sharing their prefix, than apart."""
    sizes: list[int] = []
    count, shared, longest = 0, 0, 0
    for position, ids in enumerate(ordered):
        if count:
            shared_with = min(shared, common_prefix(ordered[position - 1], ids), len(ids) - 1)
            longest_with = max(longest, len(ids))
            together = shared_with + (count + 1) * (longest_with - shared_with)
            apart = shared + count * (longest - shared) + len(ids) + PASS_TOKENS
            if together <= apart:
                count, shared, longest = count + 1, shared_with, longest_with
                continue
            sizes.append(count)
        count, shared, longest = 1, len(ids) - 1, len(ids)
    return [*sizes, count] if count else []


def _cut(members: Sequence[int], prompts: Sequence[Prompt], limits: Limits, padded: bool) -> list[list[int]]:
    """Cut a family, shortest first, into batches within the limits."""
    shared = shared_prefix([prompts[i].ids for i in members]) if padded else 0
    batches: list[list[int]] = []
    for i in members:
        batch = [*batches[-1], i] if batches else [i]
        rows, length = len(batch), len(prompts[i].ids)
        answer = max(prompts[j].limit for j in batch)
        fits = (
            rows <= limits.rows
            and rows * (length + answer) <= limits.held_tokens
            and rows * (length - shared) <= limits.computed_tokens
            and (padded or length == len(prompts[batch[0]].ids))
        )
        if batches and fits:
            batches[-1] = batch
        else:
            batches.append([i])
    return batches
