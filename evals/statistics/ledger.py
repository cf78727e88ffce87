"""The alpha ledger: who was promised which part of the family's error probability, and who has spent it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: a test, its level, and whether the test has begun."""

    test: str
    alpha: float
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """Levels that add up to at most `alpha`, which bounds the probability of any false certificate (union bound)."""

    alpha: float
    entries: tuple[Entry, ...] = ()

    @property
    def promised(self) -> float:
        """Sum of all entries, begun or not."""
        return sum(entry.alpha for entry in self.entries)

    @property
    def spent(self) -> float:
        """Sum of the entries whose test has begun."""
        return sum(entry.alpha for entry in self.entries if entry.spent)

    def promise(self, test: str, alpha: float) -> Ledger:
        """A ledger with one more entry; ValueError when the family's alpha does not cover it."""
        if any(entry.test == test for entry in self.entries):
            raise ValueError(f"the ledger has an entry for {test!r}; every test needs one of its own")
        if self.promised + alpha > self.alpha * (1.0 + 1e-9):
            left = self.alpha - self.promised
            raise ValueError(f"{test!r} asks for alpha {alpha:.4g}, but only {max(left, 0.0):.4g} is left")
        return replace(self, entries=(*self.entries, Entry(test, alpha)))

    def spend(self, test: str) -> Ledger:
        """A ledger in which this test has begun; ValueError when nothing was promised to it."""
        if all(entry.test != test for entry in self.entries):
            raise ValueError(f"nothing was promised to {test!r}")
        return replace(self, entries=tuple(replace(e, spent=e.spent or e.test == test) for e in self.entries))

    def hand_over(self, reserve: str, test: str) -> Ledger:
        """A ledger in which the entry held as `reserve` belongs to `test`."""
        if all(entry.test != reserve or entry.spent for entry in self.entries):
            raise ValueError(f"no unspent entry {reserve!r} to hand over to {test!r}")
        return replace(self, entries=tuple(replace(e, test=test) if e.test == reserve else e for e in self.entries))


def retest_alpha(alpha: float, attempt: int) -> float:
    """Level of the j-th test of one candidate that is changed and tested again: alpha 6 / (pi^2 j^2).

    The levels of all attempts, however many there will be, add up to alpha (Basel series).
    """
    if attempt < 1:
        raise ValueError(f"attempts are counted from 1, got {attempt!r}")
    return alpha * 6.0 / (pi**2 * attempt**2)
