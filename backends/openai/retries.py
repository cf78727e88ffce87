"""When a failed request is sent again, and after how long. The only retries there are: the SDK's are off."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Policy:
    """How stubborn the backend is."""

    attempts: int = 8
    """Most attempts for one answer."""
    lost: int = 1
    """Most attempts that may have been billed without an answer (cut off, timed out) before giving up."""
    first_seconds: float = 0.5
    """Mean wait after the first failure; it doubles with each further one."""
    most_seconds: float = 30.0
    """Longest wait of our own choice."""
    patience_seconds: float = 300.0
    """Longest wait that an endpoint may ask for; beyond it the run stops and can be resumed."""

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after so many failures: exponential, half of it random so that waiters spread."""
        full = min(self.most_seconds, self.first_seconds * 2.0 ** (failures - 1))
        return full * rng.uniform(0.5, 1.0)


def asked_delay(headers: Mapping[str, str]) -> float | None:
    """Seconds the endpoint asks to wait before the next request, None when it does not.

    A date in Retry-After is compared with the answer's own Date, so that a wrong clock on either side does no harm.
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    said = headers.get("retry-after")
    if said is None:
        return None
    seconds = _number(said)
    if seconds is not None:
        return seconds
    until, now = _date(said), _date(headers.get("date"))
    if until is None:
        return None
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def exhausted_delay(headers: Mapping[str, str]) -> float | None:
    """Seconds until the endpoint's own budget of requests or tokens is refilled, None while some of it is left."""
    waits = []
    for kind in ("requests", "tokens"):
        if _number(headers.get(f"x-ratelimit-remaining-{kind}")) == 0:
            waits.append(_span(headers.get(f"x-ratelimit-reset-{kind}", "")))
    known = [wait for wait in waits if wait is not None]
    return max(known) if known else None


def _number(text: str | None) -> float | None:
    """A finite number that is not negative, None for anything else."""
    try:
        number = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return number if 0.0 <= number < float("inf") else None


def _span(text: str) -> float | None:
    """Seconds of `6m0s`, `120ms` or `1.5`, None for anything else."""
    parts = _SPAN.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return float(sum(float(number) * _UNITS[unit] for number, unit in parts))
    return _number(text)


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)
