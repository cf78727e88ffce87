"""Dollars that calls under way may still cost, kept where a kill of the process cannot take them.

A call that is billed may be under way when the process is killed, and nobody learns what it cost. So the store holds
a mark that is never below what the calls under way have reserved together. It is written before the call that needs
it is sent, in steps, so that writes stay few. A mark that a killed sitting left counts as spent from then on.

A call that outlives its process, such as a request in a batch, has a name: its reservation is kept under it and taken
up again when the same call is made by the next sitting.
"""

from __future__ import annotations

from evals.store import Store

_STEP = 1.5
"""A mark is raised to this multiple of what it must hold: some 14 writes from one call to 256 at once."""
_REVIEW = 512
"""Settled calls between looks at whether the mark could be lower."""
_MARK, _LOST = "", "lost"


class Unsettled:
    """The mark of one sitting, what earlier sittings of the run lost, and the named calls they left."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        store.forfeit(run_id, _MARK, _LOST)
        rows = store.unsettled(run_id)
        self.lost_usd = rows.pop(_LOST, 0.0)
        """Dollars at most of calls that were under way when earlier sittings were killed."""
        self._kept = rows
        """Name of a call that outlives its sitting -> dollars reserved for it, of those that nobody waits for now."""
        self._kept_usd = sum(rows.values())
        self._mark = self._peak = 0.0
        self._settled = 0

    @property
    def usd(self) -> float:
        """Dollars of all that may have been billed and is not known to be."""
        return self.lost_usd + sum(self._kept.values())

    def kept_beside(self, name: str) -> float:
        """Dollars reserved for calls that nobody waits for now, but for the one of this name."""
        return max(0.0, self._kept_usd - self._kept.get(name, 0.0))

    def reserved(self, outstanding_usd: float, most_usd: float | None) -> None:
        """Note what calls without a name have reserved together, before one of them is sent.

        Args:
            outstanding_usd: Their dollars at most.
            most_usd: Dollars that the run may still spend, None without a limit: no more need be marked.
        """
        self._peak = max(self._peak, outstanding_usd)
        if outstanding_usd > self._mark:
            self._set(_stepped(outstanding_usd, most_usd))

    def settled(self, outstanding_usd: float, most_usd: float | None) -> None:
        """Note that a call was settled; now and then the mark follows what the calls need down."""
        self._settled += 1
        if self._settled % _REVIEW == 0:
            if 2 * _STEP * self._peak < self._mark:
                self._set(_stepped(self._peak, most_usd))
            self._peak = outstanding_usd

    def keep(self, name: str, usd: float) -> None:
        """Keep the reservation of a call that outlives this process."""
        self._kept_usd -= self._kept.pop(name, 0.0)
        self._store.set_unsettled(self._run_id, name, usd)

    def leave(self, name: str, usd: float) -> None:
        """Nobody waits for the call any more; its reservation stays."""
        self._kept[name] = usd
        self._kept_usd += usd

    def drop(self, name: str) -> None:
        """A named call was settled."""
        self._store.set_unsettled(self._run_id, name, 0.0)

    def close(self) -> None:
        """An orderly end: every call without a name is settled."""
        self._set(0.0)

    def _set(self, usd: float) -> None:
        if usd != self._mark:
            self._mark = usd
            self._store.set_unsettled(self._run_id, _MARK, usd)


def _stepped(outstanding_usd: float, most_usd: float | None) -> float:
    stepped = _STEP * outstanding_usd
    return stepped if most_usd is None else max(outstanding_usd, min(stepped, most_usd))
