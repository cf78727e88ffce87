"""What a conversation with tools is going to ask, before it is held."""

from __future__ import annotations

from advisor.span import Span
from advisor.techniques.forecast import Ask
from backends.types import ChatRequest

_CALL, _RESULT = Span(10, 32, 96), Span(8, 45, 400)
"""Tokens of a call as a model writes it, and of what it gives with the frame around both; assumed."""
_CALLS = 1.5
"""Calls that an input leads to, assumed; none at least, as many as are allowed at most."""


def turns_ahead(opening: ChatRequest, most_calls: int) -> list[Ask]:
    """The turns in which calls are asked for, and the one that answers; each reads all calls before it."""
    calls = Span(0, min(_CALLS, most_calls), most_calls)
    told = (_CALL + _RESULT) * calls
    calling = Ask(opening, calls, target=False, thought=_CALL, more=told * 0.5)
    return [calling, Ask(opening, more=told)]
