"""The ladder: which arm to try next on which samples, and when the climb is over.

Arms are climbed in the order given, cheapest first. Each goes through one sequential test at its share of alpha and
the first that is certified is picked (COST-GS). The probability of picking an arm that misses the target is at most
alpha whatever the arms' dependence (union bound); no correction is needed for giving up, since a wrong escalation
needs one particular arm to be lost, the cheapest that is clearly good enough.

Pure: no model, no file, no clock. The same arms and observations always lead to the same state, which is how a run
is resumed: ask for batches and answer them from the store until it has no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from advisor.contender import SETTINGS, Contender, rules_for
from advisor.goal import Goal
from advisor.standing import Arm, Batch, Observation, Outlook, Standing, ValueGate, Verdict
from backends.wording import counted
from evals.statistics.boundaries import design
from evals.statistics.ledger import Ledger
from evals.statistics.value import Stakes, expected_samples, feasibility

__all__ = ["Arm", "Batch", "Ladder", "Observation", "Outlook", "Standing", "ValueGate"]


class Ladder:
    """Climbs arms until one is certified or all are settled."""

    def __init__(
        self,
        arms: Sequence[Arm],
        goal: Goal,
        n: int,
        *,
        binary: bool,
        reserved_arms: int = 1,
        groups: Sequence[str | None] | None = None,
        abreast: int = 1,
        gate: ValueGate | None = None,
    ) -> None:
        """Set the rules of a one.

        Args:
            arms: in climbing order, cheapest first.
            goal: target, margin, confidence, mode and limits.
            n: samples there are, in one random order that all arms share.
            binary: every score is 0 or 1.
            reserved_arms: how many fine-tuned arms have a share of alpha set aside.
            groups: the cluster of each sample in the shared order; None when samples are independent.
            abreast: how many arms are tried side by side; 1 spends least, len(arms) needs the fewest rounds.
            gate: skip arms whose test cannot pay; None tests every arm.

        Raises:
            ValueError: no arms, two of one id, or a number outside its range.
        """
        regular = sum(not arm.reserved for arm in arms)
        family = regular + reserved_arms
        if family < 1 or abreast < 1:
            raise ValueError(f"a ladder needs an arm and room for one abreast, got {family!r} and {abreast!r}")
        self._goal = goal
        self._abreast = abreast
        self._rules = rules_for(goal, n, goal.alpha / family, binary=binary, groups=groups)
        self._ledger = Ledger(goal.alpha)
        self._contenders: dict[str, Contender] = {}
        self._skipped: dict[str, str] = {}
        self._asked: set[str] = set()
        """Arms whose batch was handed out; one that is in flight is taken although another arm was certified since."""
        for arm in arms:
            if not arm.reserved:
                self._ledger = self._ledger.promise(arm.id, self._rules.alpha)
                self._contenders[arm.id] = Contender(arm, self._rules)
        for number in range(reserved_arms):
            self._ledger = self._ledger.promise(_reserve(number), self._rules.alpha)
        for arm in arms:
            if arm.reserved:
                self.add(arm)
        if gate is not None:
            self._apply(gate)

    @property
    def looks(self) -> tuple[int, ...]:
        """Sample counts at which an arm is judged; batches end there."""
        return self._rules.quality.looks

    @property
    def ledger(self) -> tuple[dict[str, Any], ...]:
        """Who was promised which part of alpha, and who has begun to spend it; rows for the report."""
        return tuple(asdict(entry) for entry in self._ledger.entries)

    def add(self, arm: Arm) -> None:
        """Let a fine-tuned arm join with a reserved share of alpha; it is tested unless a cheaper pick is certified.

        Raises:
            ValueError: nothing is reserved any more, or the id is taken.
        """
        free = [entry.test for entry in self._ledger.entries if entry.test.startswith(RESERVE)]
        if arm.id in self._contenders:
            raise ValueError(f"an arm {arm.id!r} is on the ladder already")
        if not free:
            raise ValueError(f"no alpha is reserved for {arm.id!r}: raise reserved_arms before the climb begins")
        self._ledger = self._ledger.hand_over(free[0], arm.id)
        self._contenders[arm.id] = Contender(Arm(arm.id, arm.usd_per_1k_requests, reserved=True), self._rules)

    def next(self) -> tuple[Batch, ...]:
        """The batches to try now, at most one an arm; () when the climb is over. Asking twice gets the same answer."""
        batches: list[Batch] = []
        for one in self._contenders.values():
            if len(batches) == self._abreast:
                break
            if not one.settled and one.arm.id not in self._skipped and self._better_than(one) is None:
                batches.append(one.batch)
        self._asked.update(batch.arm for batch in batches)
        return tuple(batches)

    def record(self, arm: str, observations: Sequence[Observation]) -> Standing:
        """Take in the observations of the batch that `next` asked of this arm, in sample order, and decide.

        The interval of an arm that goes on is left to `standing`: it takes longer than a decision.

        Raises:
            ValueError: the arm was not asked, or the observations do not fit its batch.
        """
        if arm not in self._asked:
            self.next()
        if arm not in self._asked:
            raise ValueError(f"nothing was asked of {arm!r} now; record what next() asks for")
        self._asked.remove(arm)
        one = self._contenders[arm]
        if one.n == 0:
            self._ledger = self._ledger.spend(arm)
        one.record(observations)
        if one.status == "running":
            return one.progress()
        return self.standing(arm)

    @property
    def picked(self) -> str | None:
        """The arm to use, once the climb is over; None when none is certified."""
        best = self._best()
        return None if best is None or self.next() else best.arm.id

    @property
    def verdict(self) -> Verdict:
        """What the climb has shown.

        `pick`: an arm is certified. `escalate`: every arm was proved short of target plus margin or failed too
        often. `inconclusive`: these samples could not tell, or not yet, while the climb goes on.
        """
        if self.next():
            return "inconclusive"
        if self._best() is not None:
            return "pick"
        short = all(one.status in ("eliminated", "failed") for one in self._contenders.values())
        return "escalate" if short else "inconclusive"

    def standing(self, arm: str) -> Standing:
        """Where one arm stands now."""
        one = self._contenders[arm]
        if arm in self._skipped and not one.n:
            return one.standing("skipped", self._skipped[arm])
        better = self._better_than(one)
        if better is not None and not one.settled:
            return one.standing("not_needed", f"{better.arm.id} is certified and costs no more.")
        return one.standing(one.status, one.explain())

    def standings(self) -> tuple[Standing, ...]:
        """Where all arms stand, in climbing order, added arms last."""
        return tuple(self.standing(arm) for arm in self._contenders)

    def outlook(self) -> Outlook | None:
        """What it would take to settle an inconclusive climb by its most promising arm; None for other verdicts."""
        if self.next() or self.verdict != "inconclusive":
            return None
        open_arms = [s for s in self.standings() if s.status in ("hopeless", "unresolved") and s.shortfall is not None]
        if not open_arms:
            return None
        best = min(open_arms, key=lambda s: s.shortfall or 0.0)
        needed, price = best.samples_needed, self._contenders[best.arm].arm.usd_per_1k_requests
        usd = None if needed is None or price is None else needed * price / 1000.0
        extra = None if needed is None else max(needed - self._rules.n, 0)
        return Outlook(best.arm, needed, extra, usd, best.shortfall or 0.0)

    def _better_than(self, one: Contender) -> Contender | None:
        """A certified arm that makes this one unneeded: an earlier one, or where one was added, one no dearer."""
        earlier = True
        for other in self._contenders.values():
            if other is one:
                earlier = False
            elif other.status == "certified":
                added = other.arm.reserved or one.arm.reserved
                if (not _cheaper(one.arm, other.arm) and _priced(one.arm, other.arm)) if added else earlier:
                    return other
        return None

    def _best(self) -> Contender | None:
        """The first certified arm, unless one that was added is known to cost less."""
        best: Contender | None = None
        for one in self._contenders.values():
            if one.status == "certified" and (best is None or (one.arm.reserved and _cheaper(one.arm, best.arm))):
                best = one
        return best

    def _apply(self, gate: ValueGate) -> None:
        """Skip the arms whose test is expected to cost more than it may save."""
        prices = {id_: one.arm.usd_per_1k_requests for id_, one in self._contenders.items()}
        known = [price for price in prices.values() if price is not None]
        if not known:
            return
        fallback = max(known) if gate.fallback_usd_per_1k is None else gate.fallback_usd_per_1k
        slack, beta, gamma = SETTINGS[self._goal.mode]
        rules = self._rules
        plan = design(rules.n, rules.target, self._goal.margin + slack, rules.alpha, beta, gamma)
        for id_, price in prices.items():
            if price is None or (gate.fallback_usd_per_1k is None and price == fallback):
                continue
            arm = self._contenders[id_].arm
            feasible = feasibility(arm.dev_score, arm.dev_n, rules.target)
            samples = expected_samples(plan, arm.dev_score, arm.dev_n)
            stakes = Stakes(price, fallback, gate.requests, feasible, samples)
            if not stakes.pays and stakes.test_usd >= gate.least_usd:
                self._skipped[id_] = (
                    f"Testing it would cost about ${stakes.test_usd:.2f} and save ${max(stakes.gain_usd, 0.0):.2f} "
                    f"on average over {counted(gate.requests, 'request', ',.0f')} (probability {feasible:.2f} to reach "
                    "the target)."
                )


RESERVE = "reserved for fine-tuned candidate "


def _priced(*arms: Arm) -> bool:
    return all(arm.usd_per_1k_requests is not None for arm in arms)


def _cheaper(arm: Arm, other: Arm) -> bool:
    """Whether an arm is known to cost less than another."""
    own, price = arm.usd_per_1k_requests, other.usd_per_1k_requests
    return own is not None and price is not None and own < price


def _reserve(number: int) -> str:
    return f"{RESERVE}{number + 1}"
