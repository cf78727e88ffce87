"""Money over the horizon, from measured dollars per request. Pure; every figure is None when a price is unknown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When a candidate with a fixed cost beats one without."""

    candidate: str
    against: str
    fixed_usd: float
    requests_per_month: float
    """Above this volume the candidate is cheaper over the horizon."""


def monthly_usd(usd_per_1k_requests: float | None, requests_per_month: float | None) -> float | None:
    """Serving dollars a month."""
    if usd_per_1k_requests is None or requests_per_month is None:
        return None
    return usd_per_1k_requests * requests_per_month / 1000


def break_even(
    candidate: tuple[str, float | None], against: tuple[str, float | None], fixed_usd: float | None, months: float
) -> BreakEven | None:
    """Requests a month at which `fixed_usd` is earned back by the saving per request within `months`.

    `candidate` and `against` are (id, dollars per 1,000 requests). V* = F / (L (c_now - c_ft)), decision.md 8.3 with
    no hosting fee and a certain success. None when a figure is unknown or nothing is saved.
    """
    if candidate[1] is None or against[1] is None or fixed_usd is None or months <= 0:
        return None
    saving = (against[1] - candidate[1]) / 1000
    if saving <= 0:
        return None
    return BreakEven(candidate[0], against[0], fixed_usd, fixed_usd / (months * saving))
