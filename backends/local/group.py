"""The processes that train one model together: what each of them computes, and the sums over all.

Every process holds the whole model and takes the same steps, so that only gradients and losses need to meet. A process
that trains alone is a group of its own, in which nothing is shared and nothing is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from backends.errors import BackendUnavailable

_BUCKET = 1 << 24
"""Numbers that are added up at once; gradients of more are summed in several rounds, which bounds the memory."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Group:
    """Process number `rank` of `size`. Each method must be called by all of them, in the same order."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and tells how far the training is."""
        return self.rank == 0

    def share(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """This process's part: in a list sorted by length, all parts are about as long."""
        return items if self.size == 1 else items[self.rank :: self.size]

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.size == 1:
            return value
        return float(self._added(torch.tensor(value, dtype=torch.float64, device=self.device)))

    def least(self, value: int) -> int:
        """The smallest of a number over all processes."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.int64, device=self.device)
        return int(self._reduced(found, distributed.ReduceOp.MIN))

    def wait(self) -> None:
        """Go on when all processes have come as far."""
        self.least(0)

    def add_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Give every process the sum of all processes' gradients; one that had nothing to compute adds zeros."""
        if self.size == 1:
            return
        for bucket in _buckets(parameters):
            gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in bucket]
            total = self._added(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = torch.split(total, [each.numel() for each in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter)

    def _added(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._reduced(tensor, distributed.ReduceOp.SUM)

    def _reduced(self, tensor: torch.Tensor, how: distributed.ReduceOp.RedOpType) -> torch.Tensor:
        """The tensor over all processes, in place. All of them get the same bits: each part is added up by one."""
        try:
            distributed.all_reduce(tensor, how)
        except RuntimeError as error:
            # Without the source line before it and the advice behind it.
            said = re.sub(r"^\[[^\]]*\] ", "", str(error)).partition(". ")[0]
            raise BackendUnavailable(
                f"another training process was lost ({said}). Perhaps the system killed it because memory ran out; "
                "finished epochs are kept. Run it again, with fewer processes."
            ) from error
        return tensor


ALONE = Group()


def _buckets(parameters: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The parameters in order, cut where a bucket is full."""
    bucket: list[torch.Tensor] = []
    held = 0
    for parameter in parameters:
        bucket.append(parameter)
        held += parameter.numel()
        if held >= _BUCKET:
            yield bucket
            bucket, held = [], 0
    if bucket:
        yield bucket
