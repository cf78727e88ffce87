"""A time in which models are only looked at: what is told of them then needs no key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_KEYS_WANTED: ContextVar[bool] = ContextVar("keys wanted", default=True)


@contextmanager
def keyless() -> Iterator[None]:
    """Within, a missing key is no problem of a model: it is not going to be asked."""
    token = _KEYS_WANTED.set(False)
    try:
        yield
    finally:
        _KEYS_WANTED.reset(token)


def keys_wanted() -> bool:
    """Whether a model without its key is of no use."""
    return _KEYS_WANTED.get()
