"""Cuts one file into train, dev and test, and takes a share of a split: seeded, stratified, groups kept whole."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate

from evals.task import Sample


def split_indices(
    samples: Sequence[Sample], fractions: Sequence[float], seed: int, stratify: bool
) -> tuple[tuple[int, ...], ...]:
    """Which samples go to each part: disjoint, together all of them, each in the samples' order.

    `stratify` keeps each target's share: a part gets its fraction of a target's samples rounded down or up.
    When samples have groups, no group is cut; parts then hold about their fraction of samples, and targets fall as
    they may.
    """
    total = sum(fractions)
    shares = [fraction / total for fraction in fractions]
    rng = random.Random(seed)
    if any(sample.group is not None for sample in samples):
        parts = _whole_groups(samples, shares, rng)
    else:
        parts = _stratified(_strata(samples, stratify), shares, rng)
    return tuple(tuple(sorted(part)) for part in parts)


def shuffled_prefix(samples: Sequence[Sample], count: int, seed: int, stratify: bool) -> tuple[Sample, ...]:
    """The first `count` of the samples in a seeded order; a longer prefix holds every shorter one.

    `stratify` spreads every target evenly over the order, so that any prefix holds about its share of each.
    """
    rng = random.Random(seed)
    keyed: list[tuple[float, int]] = []
    for stratum in _strata(samples, stratify):
        rng.shuffle(stratum)
        start = rng.random()
        keyed.extend(((rank + start) / len(stratum), index) for rank, index in enumerate(stratum))
    return tuple(samples[index] for _, index in sorted(keyed)[:count])


def shared_order(samples: Sequence[Sample], seed: int) -> tuple[Sample, ...]:
    """The one random order in which every candidate sees the samples: paired, and never the file's order.

    Samples of one group stay together, since the group is what was drawn at random.
    """
    rng = random.Random(f"{seed}:order")
    clusters: dict[str, list[Sample]] = {}
    for sample in samples:
        clusters.setdefault(f"id {sample.id}" if sample.group is None else f"group {sample.group}", []).append(sample)
    drawn = list(clusters.values())
    rng.shuffle(drawn)
    return tuple(sample for cluster in drawn for sample in rng.sample(cluster, len(cluster)))


def _strata(samples: Sequence[Sample], stratify: bool) -> list[list[int]]:
    """Indices of the samples, by target or all together."""
    strata: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        strata.setdefault(sample.target if stratify else "", []).append(index)
    return list(strata.values())


def _stratified(strata: list[list[int]], shares: Sequence[float], rng: random.Random) -> list[list[int]]:
    parts: list[list[int]] = [[] for _ in shares]
    owed = [0.0 for _ in shares]
    for stratum in strata:
        rng.shuffle(stratum)
        exact = [share * len(stratum) for share in shares]
        counts = [int(value + 1e-9) for value in exact]
        owed = [debt + value - count for debt, value, count in zip(owed, exact, counts, strict=True)]
        # What rounding down left over goes to the parts that are owed most, so that totals come out even too.
        open_parts = [part for part, value in enumerate(exact) if value - counts[part] > 1e-9]
        open_parts.sort(key=lambda part: -owed[part])
        for part in open_parts[: len(stratum) - sum(counts)]:
            counts[part] += 1
            owed[part] -= 1
        ends = list(accumulate(counts))
        for part, (end, count) in enumerate(zip(ends, counts, strict=True)):
            parts[part].extend(stratum[end - count : end])
    return parts


def _whole_groups(samples: Sequence[Sample], shares: Sequence[float], rng: random.Random) -> list[list[int]]:
    """Groups in random order, the large ones first, each to the part that still lacks most of its share."""
    groups: dict[tuple[bool, str], list[int]] = {}
    for index, sample in enumerate(samples):
        alone = sample.group is None
        groups.setdefault((alone, str(index) if sample.group is None else sample.group), []).append(index)
    order = list(groups.values())
    rng.shuffle(order)
    order.sort(key=len, reverse=True)
    parts: list[list[int]] = [[] for _ in shares]
    for group in order:
        lacking = [share * len(samples) - len(part) for share, part in zip(shares, parts, strict=True)]
        parts[lacking.index(max(lacking))].extend(group)
    return parts
