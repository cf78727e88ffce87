"""Which prompts begin alike: a tree of the stretches that are worth computing once. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from backends.local.batches import PASS_TOKENS, Limits, Prompt, common_prefix


@dataclass(slots=True)
class Node:
    """Prompts that share their first `shared` tokens."""

    shared: int
    rows: list[int] = field(default_factory=list)
    """Those that share no more than this with others."""
    children: list[Node] = field(default_factory=list)


def tree(prompts: Sequence[tuple[int, ...]]) -> Node:
    """Group prompts by the prefixes whose saving outweighs a forward pass more; each prompt keeps a token of its own.

    The root shares nothing. Depth is bounded by the saving asked for, and nothing here recurs, so prompts that each
    begin the next are no danger.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], i))
    alike = [0, *(common_prefix(prompts[a], prompts[b]) for a, b in pairwise(order))]
    root = Node(0)
    waiting = [(0, len(order), root)] if order else []
    while waiting:
        low, high, node = waiting.pop()
        if high - low == 1:
            node.rows.append(order[low])
            continue
        least = min(alike[low + 1 : high])
        shared = min(least, min(len(prompts[i]) for i in order[low:high]) - 1)
        if (high - low - 1) * (shared - node.shared) > PASS_TOKENS:
            parent, node = node, Node(shared)
            parent.children.append(node)
        cuts = [low, *(i for i in range(low + 1, high) if alike[i] == least), high]
        waiting.extend((a, b, node) for a, b in pairwise(cuts))
    return root


def groups(prompts: Sequence[Prompt], limits: Limits) -> list[list[int]]:
    """Cut prompts into groups that are admitted together: families side by side, the shorter rows first; indices."""
    found: list[list[int]] = []
    longest, computed = 0, 0
    for i, own in _ordered(tree([prompt.ids for prompt in prompts]), [len(prompt.ids) for prompt in prompts]):
        longest, computed = max(longest, own + prompts[i].limit), computed + own
        rows = len(found[-1]) + 1 if found else 0
        fits = rows <= limits.rows and rows * longest <= limits.held_tokens and computed <= limits.computed_tokens
        if found and fits:
            found[-1].append(i)
        else:
            found.append([i])
            longest, computed = own + prompts[i].limit, own
    return found


def _ordered(root: Node, lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The rows of a tree, and how many tokens of each are its own."""
    waiting: list[tuple[Node | int, int]] = [(root, 0)]
    while waiting:
        found, shared = waiting.pop()
        if isinstance(found, int):
            yield found, lengths[found] - shared
            continue
        # The last comes first from the stack. What was found came from a stack too, by tokens and backwards, so that
        # the order of arrival does not matter.
        waiting += [(child, child.shared) for child in found.children]
        waiting += [(i, found.shared) for i in sorted(found.rows, key=lengths.__getitem__, reverse=True)]
