"""Groups the inputs that a tuned model gets wrong by meaning, and names each group by its typical words.

Ward's method over unit vectors: it makes groups of like size and needs no starting points, so the same vectors always
give the same groups. How many: about the root of half the failures, six at most.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advisor.tuning.confusions import Answered, to_add
from backends.types import FloatArray

FEWEST = 8
"""Wrong answers below which groups would be groups of one or two."""
_MOST_CLUSTERS = 6
_FEWEST_IN_CLUSTER = 3
_REACH = 0.5
"""A sample counts as like a cluster's when it is as near to the centre as this share of its failures."""
_WORSE = 1.5
"""Mistakes must be this many times as common around a cluster as on all of dev before more samples are called for."""
_WORDS = 3
_EXAMPLES = 3
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Failures whose inputs are alike."""

    words: tuple[str, ...]
    """Typical words, the most typical first; empty where the inputs share none."""
    examples: tuple[Answered, ...]
    """Those nearest to the centre of the others."""
    failures: int
    near_dev: int
    """Dev samples this near to the centre."""
    near_wrong: int
    """Of these, wrong answers."""
    near_train: int
    """Train samples this near; an estimate where only a part of train was embedded."""
    add: int
    """Train samples to add, by `to_add`; 0 where mistakes are hardly commoner here than elsewhere."""

    @property
    def name(self) -> str:
        """Its typical words, else the beginning of its most typical example."""
        return ", ".join(self.words) or " ".join(self.examples[0].sample.input.split())[:40]

    @property
    def advice(self) -> str:
        """What to add, in words."""
        around = (
            f"{self.near_wrong} of {self.near_dev} dev samples this near are wrong, and train has {self.near_train} "
            f"like them; see {', '.join(one.sample.id for one in self.examples)}."
        )
        if not self.add:
            return f"More samples like {self.name!r} would hardly help: {around}"
        return f"Add about {self.add} train samples like these: {self.name!r}. {around[:1].upper()}{around[1:]}"


def clusters(answered: Sequence[Answered], vectors: FloatArray, train: FloatArray, n_train: int) -> tuple[Cluster, ...]:
    """The groups of at least three failures, the largest first.

    Args:
        answered: Dev samples.
        vectors: Of their inputs, shape (answered, dimension), unit length.
        train: Of the inputs of all train samples, or of a part drawn at random, shape (drawn, dimension).
        n_train: All train samples.
    """
    wrong = [at for at, one in enumerate(answered) if not one.right]
    members = _grouped(vectors[wrong])
    found = [_cluster([wrong[at] for at in group], answered, vectors, train, n_train) for group in members]
    large = [one for one in found if one.failures >= _FEWEST_IN_CLUSTER]
    return tuple(sorted(large, key=lambda one: (-one.failures, one.name)))


def _grouped(vectors: FloatArray) -> list[list[int]]:
    from scipy.cluster.hierarchy import fcluster, linkage  # takes half a second, and most commands group nothing

    count = max(1, min(_MOST_CLUSTERS, round(math.sqrt(len(vectors) / 2))))
    named: npt.NDArray[np.int32] = fcluster(linkage(vectors.astype(np.float64), "ward"), count, "maxclust")
    return [[int(at) for at in np.flatnonzero(named == name)] for name in np.unique(named)]


def _cluster(
    members: Sequence[int], answered: Sequence[Answered], vectors: FloatArray, train: FloatArray, n_train: int
) -> Cluster:
    own = vectors[list(members)]
    centre = _unit(own.sum(axis=0))
    cosines = vectors @ centre
    # A failure is nearer to a centre that it helped to set than a new sample like it would be: each is left out once.
    cosines[list(members)] = np.sum(own * _unit(own.sum(axis=0) - own), axis=1)
    # Rounding must not put the failure that sets the limit outside.
    limit = float(np.quantile(cosines[list(members)], 1 - _REACH)) - 1e-6
    near = [at for at in range(len(answered)) if cosines[at] >= limit]
    near_wrong = sum(not answered[at].right for at in near)
    share = float(np.mean(train @ centre >= limit)) if len(train) else 0.0
    near_train = round(share * n_train)
    overall = sum(not one.right for one in answered) / len(answered)
    nearest = sorted(members, key=lambda at: (-float(cosines[at]), at))[:_EXAMPLES]
    inside = {answered[at].sample.id for at in members}
    return Cluster(
        words=typical_words(
            [one.sample.input for one in answered if one.sample.id in inside],
            [one.sample.input for one in answered if one.sample.id not in inside],
        ),
        examples=tuple(answered[at] for at in nearest),
        failures=len(members),
        near_dev=len(near),
        near_wrong=near_wrong,
        near_train=near_train,
        add=to_add(near_train) if near_wrong >= _WORSE * overall * len(near) else 0,
    )


def _unit(rows: FloatArray) -> FloatArray:
    """Rows, or one row, of length one; what has no length stays without direction."""
    length: FloatArray = np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return rows / length


def typical_words(inside: Sequence[str], outside: Sequence[str]) -> tuple[str, ...]:
    """Words that more of the texts inside hold than of those outside: by their part of the divergence of the two."""
    here, there = (Counter(word for text in texts for word in _words(text)) for texts in (inside, outside))

    def weight(word: str) -> float:
        share = (here[word] + 0.5) / (len(inside) + 1)
        return share * math.log(share * (len(outside) + 1) / (there[word] + 0.5))

    shared = [word for word, count in here.items() if count >= 2 and weight(word) > 0]
    return tuple(sorted(shared, key=lambda word: (-weight(word), word))[:_WORDS])


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
