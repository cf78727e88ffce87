"""Whether a fixed cost pays: break-even volume, net present value by simulation, and what drives it. Pure.

A fine-tune costs F dollars once and perhaps h a month, and saves s dollars on every later request, for as long as its
base model lives. It comes off with probability p. Over V requests a month and L months its net present value is

    NPV = p E[L (V s - h)] - F          and it breaks even at          V* = (F / L + h) / s   given that it comes off

(decision.md 8.3; no discounting: horizons are a year or so). V, L and s are uncertain: V and s lognormal, L gamma, and
cut off where a shutdown is announced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammainc

_DRAWS = 40_000
"""Standard error of a probability near one half: a quarter of a point."""


@dataclass(frozen=True, slots=True)
class Investment:
    """A fixed cost and what it saves. Dollars throughout."""

    fixed_usd: float
    """Data, pilot, training and evaluation."""
    saving_usd_per_request: float
    """Price of a request today minus its price afterwards; median of a lognormal when it is uncertain."""
    requests_per_month: float
    """Median of a lognormal."""
    months: float
    """Mean life, of a gamma distribution: until the base model is shut down or the data have moved on."""
    success: float = 1.0
    """Probability that the tuned candidate meets the target."""
    hosting_usd_per_month: float = 0.0
    requests_spread: float = 0.8
    """Standard deviation of the logarithm: 0.8 is a factor of 2.2 up or down in two of three cases."""
    months_shape: float = 4.0
    """Shape of the gamma: 4 is a standard deviation of half the mean."""
    saving_spread: float = 0.0
    """Standard deviation of the logarithm; 0 takes the saving as measured."""
    months_limit: float | None = None
    """Months to the announced shutdown of the base model, beyond which no life goes; None when there is no date."""

    def __post_init__(self) -> None:
        if not 0 <= self.success <= 1:
            raise ValueError(f"success is a probability, got {self.success}")
        if min(self.requests_per_month, self.months, self.months_shape) <= 0:
            raise ValueError("requests_per_month, months and months_shape must be positive")
        if self.months_limit is not None and self.months_limit <= 0:
            raise ValueError(f"months_limit must be positive, got {self.months_limit}")

    @property
    def life(self) -> float:
        """Months the fixed cost is spread over: the mean life, or what the shutdown leaves of it."""
        return self.months if self.months_limit is None else min(self.months, self.months_limit)


@dataclass(frozen=True, slots=True)
class PresentValue:
    """Distribution of the net present value, in dollars."""

    mean: float
    p5: float
    p50: float
    p95: float
    p_positive: float
    """Probability that it pays at all."""


@dataclass(frozen=True, slots=True)
class Driver:
    """How far the mean net present value moves with one assumption, all others left alone."""

    name: str
    low: float
    """The assumption at its low value."""
    high: float
    usd_at_low: float
    usd_at_high: float

    @property
    def swing_usd(self) -> float:
        """How much hangs on it."""
        return abs(self.usd_at_high - self.usd_at_low)


def break_even_requests(investment: Investment) -> float | None:
    """Requests a month at which it breaks even given that it comes off; None when nothing is saved."""
    return break_even_volume(
        investment.fixed_usd, investment.life, investment.saving_usd_per_request, investment.hosting_usd_per_month
    )


def break_even_volume(
    fixed_usd: float, months: float, saving_usd_per_request: float, hosting_usd_per_month: float = 0.0
) -> float | None:
    """(F / L + h) / s: requests a month at which a saving earns back what it costs; None when nothing is saved."""
    if saving_usd_per_request <= 0:
        return None
    return max(0.0, (fixed_usd / months + hosting_usd_per_month) / saving_usd_per_request)


def present_value(investment: Investment, seed: int = 1, draws: int = _DRAWS) -> PresentValue:
    """Simulate volume, life, saving and success."""
    rng = np.random.default_rng(seed)
    volume = investment.requests_per_month * np.exp(investment.requests_spread * rng.standard_normal(draws))
    months = rng.gamma(investment.months_shape, investment.months / investment.months_shape, draws)
    if investment.months_limit is not None:
        months = np.minimum(months, investment.months_limit)
    saving = investment.saving_usd_per_request * np.exp(investment.saving_spread * rng.standard_normal(draws))
    gain = months * (volume * saving - investment.hosting_usd_per_month)
    value = np.where(rng.random(draws) < investment.success, gain, 0.0) - investment.fixed_usd
    p5, p50, p95 = (float(quantile) for quantile in np.quantile(value, (0.05, 0.5, 0.95)))
    return PresentValue(float(value.mean()), p5, p50, p95, float((value > 0).mean()))


def expected_usd(investment: Investment) -> float:
    """Mean net present value in closed form: the mean of a lognormal is its median times exp(sd^2 / 2)."""
    spread = investment.requests_spread**2 + investment.saving_spread**2
    monthly = investment.requests_per_month * investment.saving_usd_per_request * float(np.exp(spread / 2))
    gain = expected_months(investment) * (monthly - investment.hosting_usd_per_month)
    return investment.success * gain - investment.fixed_usd


def expected_months(investment: Investment) -> float:
    """Mean life: of a gamma with mean m and shape k, cut off at D: m F(D; k + 1) + D (1 - F(D; k))."""
    mean, shape, limit = investment.months, investment.months_shape, investment.months_limit
    if limit is None:
        return mean
    reached = limit * shape / mean
    return float(mean * gammainc(shape + 1, reached) + limit * (1 - gammainc(shape, reached)))


def pilot_value(investment: Investment, pilot_usd: float) -> float:
    """What a pilot that settles whether the fine-tune comes off is worth, its own cost taken off.

    p max(0, NPV given success) - max(0, NPV) - cost: with it, nothing is lost on a fine-tune that would fail.
    """
    certain = expected_usd(replace(investment, success=1.0))
    return investment.success * max(0.0, certain) - max(0.0, expected_usd(investment)) - pilot_usd


def drivers(investment: Investment) -> tuple[Driver, ...]:
    """What the value hangs on, most first (a tornado): each assumption at half and twice, success at its ends."""
    found = [driver for driver in _drivers(investment) if driver.swing_usd > 0]
    return tuple(sorted(found, key=lambda driver: -driver.swing_usd))


def _drivers(investment: Investment) -> Iterator[Driver]:
    halves = ("requests_per_month", "months", "saving_usd_per_request", "fixed_usd", "hosting_usd_per_month")
    for name in halves:
        value = float(getattr(investment, name))
        yield _driver(investment, name, value / 2, value * 2)
    if investment.success < 1:
        yield _driver(investment, "success", max(0.0, investment.success - 0.2), min(1.0, investment.success + 0.2))


def _driver(investment: Investment, name: str, low: float, high: float) -> Driver:
    at_low, at_high = (expected_usd(replace(investment, **{name: value})) for value in (low, high))
    return Driver(name, low, high, at_low, at_high)
