"""How figures are worded in sentences for people."""

from __future__ import annotations


def counted(number: float, noun: str, form: str = "") -> str:
    """A number of things: `1 row`, `3 rows`; `form` is how the number is written, such as `,`."""
    text = format(number, form)
    return f"{text} {noun}{'' if text == '1' else 's'}"


def agreeing(number: int, one: str, several: str) -> str:
    """The verb, or whatever else goes with the number: `is` or `are`."""
    return one if number == 1 else several
