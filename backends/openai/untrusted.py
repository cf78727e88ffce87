"""Reading JSON that a server or a model wrote: what may go wrong, and numbers that no figure here could hold."""

from __future__ import annotations

import json
from typing import Any

UNREADABLE = (ValueError, RecursionError)
"""What reading JSON of others raises; a model that repeats `[` for ever nests deeper than can be read."""
MALFORMED = (*UNREADABLE, KeyError, TypeError, IndexError, AttributeError, OverflowError)
"""What reading an answer raises that is JSON but not what the protocol says."""
_MOST_DIGITS = 18


def read_json(content: str | bytes) -> Any:
    """A JSON value without NaN and infinities (None instead) and without whole numbers of more than 18 digits (floats).

    Raises what UNREADABLE names.
    """
    return json.loads(content, parse_int=_whole, parse_constant=lambda name: None)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)
