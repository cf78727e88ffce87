"""Answers that are exactly one of some strings, scored over a trie of their tokens.

Each string goes by its own tokens and no others, so the probabilities of all strings, each the product of the choices
along its path, add up to one. Where one path is left nothing is asked of the model: most labels are told apart by
their first token and cost no decoding step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from backends.errors import RequestError


@dataclass(slots=True)
class _Node:
    next: dict[int, _Node] = field(default_factory=dict)
    label: str | None = None
    """The string that is complete here."""


class Trie:
    """The token paths of some strings, compiled once per set of strings."""

    def __init__(self, root: _Node, longest: int) -> None:
        self.root = root
        self.longest = longest
        """Tokens of the longest answer, the one that ends it included."""

    @classmethod
    def of(cls, paths: Sequence[tuple[str, Sequence[int]]], end: int | None) -> Trie | None:
        """Make a trie of strings and their tokens; None when the tokens cannot tell the strings apart.

        Args:
            paths: Strings with their tokens.
            end: The token that ends an answer, needed where one string's tokens begin another's.
        """
        root = _Node()
        for label, tokens in paths:
            node = root
            for token in tokens:
                node = node.next.setdefault(token, _Node())
            if node is root or node.label not in {None, label}:
                return None
            node.label = label
        return cls(root, 1 + max(len(tokens) for _, tokens in paths)) if _close(root, end) else None

    def start(self) -> Walk:
        """A walk at its beginning."""
        return Walk(self.root)


def _close(root: _Node, end: int | None) -> bool:
    """Where a string is complete and others go on, make ending a choice; False when nothing can say it."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        waiting += node.next.values()
        if node.label is not None and node.next:
            if end is None or end in node.next:
                return False
            node.next[end] = _Node(label=node.label)
            node.label = None
    return True


class Walk:
    """Where one answer stands in its trie. Implements Form."""

    def __init__(self, node: _Node) -> None:
        self._node = node

    def forbid(self, logits: torch.Tensor) -> None:
        """Set the logits of all tokens that cannot come next to minus infinity, in place."""
        allowed = torch.tensor(list(self._node.next), device=logits.device)
        kept = logits[allowed]
        logits.fill_(float("-inf"))
        logits[allowed] = kept

    def accept(self, token: int) -> None:
        """Go on by one token."""
        if token not in self._node.next:
            raise RequestError("the answer left the choices.")
        self._node = self._node.next[token]

    @property
    def is_done(self) -> bool:
        """True when a string is complete and nothing can follow."""
        return not self._node.next

    def forced(self) -> tuple[list[int], bool]:
        """The tokens that must come next, up to where there is a choice again, and whether they complete the answer."""
        tokens: list[int] = []
        node = self._node
        while len(node.next) == 1:
            token, node = next(iter(node.next.items()))
            tokens.append(token)
        return tokens, not node.next

    def text(self, ids: Sequence[int]) -> str:
        """The string that was chosen, byte for byte as it was asked for."""
        if self._node.label is None:
            raise RequestError("the answer ended within a choice.")
        return self._node.label
