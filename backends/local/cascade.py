"""Rows of a running batch that share prefixes by cascade attention: packed, and padded only in their own attention.

Rows join and leave between steps. Each keeps its chain of shared segments, which lie in memory once for all rows, and
its own keys and values in a block with the others'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from backends.local.attention import Own, Partial, Pass, attend, attending
from backends.local.prefixes import MIN_TOKENS, Chain, Layers, Prefixes, Segment
from backends.local.ragged import Ragged
from backends.local.trees import Node, tree

PASS_TOKENS = 1024
"""Tokens of one forward pass over prompts: enough to keep the processor busy, few enough for its caches."""

_SLACK = 32
"""Tokens by which the block of own keys and values grows."""

Block = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, of shape (rows, tokens, heads, size)."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A prompt, or the part of one that several share, to be computed beyond what is known of it."""

    ids: tuple[int, ...]
    chain: Chain

    @property
    def start(self) -> int:
        return sum(segment.length for segment in self.chain)

    @property
    def length(self) -> int:
        return len(self.ids) - self.start


class Cascade:
    """The rows of one running batch. Implements Rows."""

    can_join = True
    takes_many = True

    def __init__(self, model: Any, prefixes: Prefixes) -> None:
        self._model = model
        self._prefixes = prefixes
        self._chains: list[Chain] = []
        self._lengths: list[int] = []
        self._block: Block = []

    def admit(self, prompts: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Compute prompts and add them as rows; logits of shape (prompts, vocabulary) after their last tokens."""
        items = self._items(prompts)
        passes = [items[low:high] for low, high in _cut([item.length for item in items])]
        computed = [self._compute(part) for part in passes]
        if len(items) == 1 and items[0].length >= MIN_TOKENS:
            own = _segment(computed[0][1], 0, items[0].length)
            self._prefixes.remember(items[0].ids, (*items[0].chain, own))
        self._join([block for _, block in computed], items)
        return torch.cat([logits for logits, _ in computed])

    def extend(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Add tokens, at least one, to every row; logits after each row's last."""
        ragged = Ragged([len(new) for new in tokens], self._model.device)
        before = torch.tensor(self._lengths, device=self._model.device)
        self._lengths = [length + len(new) for length, new in zip(self._lengths, tokens, strict=True)]
        self._grow(max(self._lengths))
        places = before[ragged.row] + ragged.place
        offsets = torch.tensor([_length(chain) for chain in self._chains], device=self._model.device)
        held = _Held(ragged, self._block, places, self._mask(ragged, before))
        return self._forward(
            [i for new in tokens for i in new], places + offsets[ragged.row], ragged, self._chains, held
        )

    def keep(self, rows: Sequence[int]) -> None:
        """Let go of all rows but these."""
        chosen = torch.tensor(rows, dtype=torch.long, device=self._model.device)
        self._chains = [self._chains[i] for i in rows]
        self._lengths = [self._lengths[i] for i in rows]
        if not rows:
            self._block = []
        # Layer by layer here and below, so that no more than one lies in memory twice.
        for layer, (keys, values) in enumerate(self._block):
            self._block[layer] = (keys.index_select(0, chosen), values.index_select(0, chosen))

    def _items(self, prompts: Sequence[tuple[int, ...]]) -> list[_Item]:
        """The prompts, with what they share computed, level by level."""
        items: dict[int, _Item] = {}
        level: list[tuple[Node, Chain]] = [(tree(prompts), ())]
        while level:
            below: list[tuple[Node, Chain]] = []
            for node, chain in level:
                items |= {i: _Item(prompts[i], self._known(prompts[i][:-1], chain)) for i in node.rows}
                below += [(child, chain) for child in node.children]
            wanted = [_Item(_any(child, prompts)[: child.shared], chain) for child, chain in below]
            level = list(zip((child for child, _ in below), self._chained(wanted), strict=True))
        return [items[i] for i in range(len(prompts))]

    def _known(self, ids: tuple[int, ...], chain: Chain) -> Chain:
        """The longest chain known for these tokens, this one if there is no much longer one."""
        if len(ids) - _length(chain) < MIN_TOKENS:
            return chain
        size, found = self._prefixes.longest(ids)
        return found if size >= _length(chain) + MIN_TOKENS else chain

    def _chained(self, wanted: Sequence[_Item]) -> list[Chain]:
        """A chain for each of these beginnings; what is not known yet is computed in common passes."""
        items = [_Item(item.ids, self._known(item.ids, item.chain)) for item in wanted]
        missing = [i for i, item in enumerate(items) if item.length]
        chains = {i: item.chain for i, item in enumerate(items)}
        for low, high in _cut([items[i].length for i in missing]):
            part = [items[i] for i in missing[low:high]]
            _, block = self._compute(part)
            for row, (i, item) in enumerate(zip(missing[low:high], part, strict=True)):
                chains[i] = self._prefixes.remember(item.ids, (*item.chain, _segment(block, row, item.length)))
        return [chains[i] for i in range(len(items))]

    def _compute(self, items: Sequence[_Item]) -> tuple[torch.Tensor, Block]:
        """One pass over what is not known of some prompts; logits after their last tokens, and their own block."""
        ragged = Ragged([item.length for item in items], self._model.device)
        own = _Fresh(ragged)
        starts = torch.tensor([item.start for item in items], device=self._model.device)
        ids = [i for item in items for i in item.ids[item.start :]]
        logits = self._forward(ids, starts[ragged.row] + ragged.place, ragged, [item.chain for item in items], own)
        return logits, own.block

    def _forward(
        self, ids: Sequence[int], positions: torch.Tensor, ragged: Ragged, chains: Sequence[Chain], own: Own
    ) -> torch.Tensor:
        how = Pass(list(_stretches(chains, ragged.ends.tolist())), own)
        with attending(self._model, how):
            output = self._model(
                input_ids=torch.tensor([ids], device=self._model.device),
                position_ids=positions[None],
                use_cache=False,
                logits_to_keep=ragged.ends - 1,
            )
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _join(self, blocks: Sequence[Block], items: Sequence[_Item]) -> None:
        """Put newly computed rows beside those that run."""
        parts = [*([self._block] if self._lengths else []), *blocks]
        self._chains += [item.chain for item in items]
        self._lengths += [item.length for item in items]
        self._block = self._stack(parts)

    def _grow(self, tokens: int) -> None:
        if tokens > self._block[0][0].shape[1]:
            self._block = self._stack([self._block])

    def _stack(self, parts: Sequence[Block]) -> Block:
        """One block of the rows of several, which are used up, with room for some tokens more."""
        held = max(self._lengths) + _SLACK
        block: Block = []
        for _ in range(len(parts[0])):
            keys, values = zip(*(part.pop(0) for part in parts), strict=True)
            block.append((_stacked(keys, held), _stacked(values, held)))
        return block

    def _mask(self, ragged: Ragged, before: torch.Tensor) -> torch.Tensor:
        """What each new token may see of its row: all up to itself."""
        held = torch.arange(max(self._lengths), device=self._model.device)
        last = before[:, None] + torch.arange(ragged.longest, device=self._model.device)
        mask = torch.zeros(ragged.rows, 1, ragged.longest, len(held), dtype=self._model.dtype, device=held.device)
        return mask.masked_fill_((held > last[:, :, None])[:, None], float("-inf"))


@dataclass(slots=True)
class _Fresh:
    """Attention within rows that have no tokens of their own yet; keeps their keys and values."""

    ragged: Ragged
    block: Block = field(default_factory=list)

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> Partial:
        if layer != len(self.block):
            raise ValueError(f"layer {layer} attends out of turn")
        keys, values = self.ragged.padded(key), self.ragged.padded(value)
        self.block.append((keys, values))
        queries = self.ragged.padded(query).transpose(1, 2)
        out, weight = attend(queries, keys.transpose(1, 2), values.transpose(1, 2), scale, causal=True)
        return self.ragged.packed(out.transpose(1, 2)), self.ragged.packed(weight.transpose(1, 2))


@dataclass(slots=True)
class _Held:
    """Attention of new tokens to all that their row has; their own keys and values are written into the block."""

    ragged: Ragged
    block: Block
    places: torch.Tensor
    """Where in its row each packed token goes."""
    mask: torch.Tensor
    """Shape (rows, 1, new tokens, tokens held): 0 or minus infinity."""

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> Partial:
        keys, values = self.block[layer]
        keys[self.ragged.row, self.places] = key
        values[self.ragged.row, self.places] = value
        keys, values = (held[:, : self.mask.shape[-1]].transpose(1, 2) for held in (keys, values))
        # Heads that share a key head are folded into its queries, or kernels would read the keys again for each.
        rows, new, shared = self.ragged.rows, self.ragged.longest, key.shape[1]
        groups = query.shape[1] // shared
        split = self.ragged.padded(query).view(rows, new, shared, groups, -1)
        folded = split.permute(0, 2, 3, 1, 4).reshape(rows, shared, groups * new, -1)
        mask = self.mask if new == 1 else self.mask.repeat(1, 1, groups, 1)
        out, weight = attend(folded, keys, values, scale, mask=mask)
        out = out.reshape(rows, shared, groups, new, -1).permute(0, 3, 1, 2, 4).flatten(2, 3)
        weight = weight.reshape(rows, shared, groups, new).permute(0, 3, 1, 2).flatten(2, 3)
        return self.ragged.packed(out), self.ragged.packed(weight)


def _length(chain: Chain) -> int:
    return sum(segment.length for segment in chain)


def _any(node: Node, prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """One of the prompts below a node."""
    while not node.rows:
        node = node.children[0]
    return prompts[node.rows[0]]


def _cut(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut rows into passes, from and to, whose padded size is bounded; a longer row is a pass of its own."""
    low, longest = 0, 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > low and (i + 1 - low) * longest > PASS_TOKENS:
            yield low, i
            low, longest = i, length
    if lengths:
        yield low, len(lengths)


def _stretches(chains: Sequence[Chain], ends: Sequence[int]) -> Iterator[tuple[int, int, Layers]]:
    """Runs of neighbouring rows with a segment in common, as stretches of their packed tokens."""
    running: dict[int, tuple[int, Segment]] = {}
    start = 0
    for chain, end in zip(chains, ends, strict=True):
        for level, (first, segment) in list(running.items()):
            if level >= len(chain) or chain[level] is not segment:
                yield first, start, segment.layers
                del running[level]
        for level, segment in enumerate(chain):
            running.setdefault(level, (start, segment))
        start = end
    for first, segment in running.values():
        yield first, start, segment.layers


def _segment(block: Block, row: int, length: int) -> Segment:
    """A row's own keys and values as a segment, in memory of its own."""
    return Segment(
        [(k[row, :length].transpose(0, 1).clone(), v[row, :length].transpose(0, 1).clone()) for k, v in block]
    )


def _stacked(parts: Sequence[torch.Tensor], tokens: int) -> torch.Tensor:
    """Rows of several blocks in one that has room for `tokens` tokens; what is not used yet is finite."""
    rows = sum(len(part) for part in parts)
    block = parts[0].new_zeros(rows, tokens, *parts[0].shape[2:])
    first = 0
    for part in parts:
        width = min(tokens, part.shape[1])
        block[first : first + len(part), :width] = part[:, :width]
        first += len(part)
    return block
