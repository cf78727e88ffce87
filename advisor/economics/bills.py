"""Dollars a month of a candidate, from measured dollars per request. Pure; unknown stays None.

An endpoint is paid by the request. A machine of one's own is paid by the hour: by the busy hour when it is rented for
the work, divided by the share of the paid time in which it works; or all month, in whole machines, when it is always
on. What a request takes of it was measured as seconds at the machine's rates, and is known here as dollars.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HOURS_PER_MONTH = 730.0
"""Mean month: 365 days x 24 hours / 12."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What local models run on."""

    usd_per_hour: float | None
    """None when it is not known."""
    utilisation: float = 1.0
    """Share of the paid time in which it works at the measured rates."""
    always_on: bool = False
    """Whether it is paid all month."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What serving costs. Dollars; None is unknown."""

    usd_per_request: float | None
    fixed_usd_per_month: float | None
    """Whatever the number of requests, at the volume the bill is for."""

    def monthly(self, requests_per_month: float | None) -> float | None:
        """Dollars for a month of so many requests."""
        if requests_per_month is None or self.usd_per_request is None or self.fixed_usd_per_month is None:
            return None
        return self.usd_per_request * requests_per_month + self.fixed_usd_per_month


def bill(
    usd_per_1k_requests: float | None,
    requests_per_month: float | None,
    machine: Machine | None = None,
    fee_usd_per_month: float = 0.0,
) -> Bill:
    """What serving costs at a volume.

    Args:
        usd_per_1k_requests: As measured; of a local model at full use of its machine.
        requests_per_month: Decides how many machines are on; None counts one.
        machine: What a local model runs on; None for an endpoint.
        fee_usd_per_month: What keeping the model deployed costs beside its requests.
    """
    each = None if usd_per_1k_requests is None else usd_per_1k_requests / 1000
    if machine is None:
        return Bill(each, fee_usd_per_month)
    if not machine.always_on:
        return Bill(None if each is None else each / machine.utilisation, fee_usd_per_month)
    hosting = _always_on(each, requests_per_month, machine)
    return Bill(0.0, None if hosting is None else hosting + fee_usd_per_month)


def _always_on(each: float | None, requests_per_month: float | None, machine: Machine) -> float | None:
    """Dollars of whole machines for a month, as many as the requests keep busy and at least one."""
    if machine.usd_per_hour is None or each is None:
        return None
    month = machine.usd_per_hour * HOURS_PER_MONTH
    busy = each * (requests_per_month or 0.0)
    # A busy machine month costs what it costs idle, so that dollars of work tell machines.
    machines = 1 if month == 0 else max(1, math.ceil(busy / (month * machine.utilisation) - 1e-9))
    return machines * month


def errors_usd(score: float | None, usd_per_error: float | None, requests_per_month: float | None) -> float | None:
    """Dollars a month that wrong answers cost, a score below 1 counting as the part it lacks."""
    if score is None or usd_per_error is None or requests_per_month is None:
        return None
    return (1 - score) * usd_per_error * requests_per_month


def mean_volume(requests_per_month: float, growth_per_month: float, months: float) -> float:
    """Requests a month on average over a life, when they grow from month to month: V (e^(rL) - 1) / (rL)."""
    growth = math.log1p(growth_per_month) * months
    return requests_per_month if growth == 0 else requests_per_month * math.expm1(growth) / growth
