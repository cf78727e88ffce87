"""Prompts with fields: `{name}` stands for a value, `{{` and `}}` for braces.

Fields are looked up by name and nothing else. `str.format` would also follow `{input.__class__}`, and prompts are
written by users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter


def fields(template: str) -> tuple[str, ...]:
    """Names of the fields, each once, in the order they come. Raises ValueError for a template that is none."""
    return tuple(dict.fromkeys(field for _, field in _parts(template) if field is not None))


def filled(template: str, values: Mapping[str, str]) -> str:
    """The text with every field replaced by its value; braces within values stay as they are.

    Raises KeyError for a field without a value and ValueError for a template that is none.
    """
    return "".join(text + ("" if field is None else values[field]) for text, field in _parts(template))


def escaped(text: str) -> str:
    """The template that is filled to just this text."""
    return text.replace("{", "{{").replace("}", "}}")


def _parts(template: str) -> Iterator[tuple[str, str | None]]:
    """Literal text and the field after it, None at the end. Raises ValueError with words that name the fault."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise ValueError("has a brace without its partner") from None
    for text, field, specification, conversion in parts:
        if field is not None and (specification or conversion or not field.isidentifier()):
            shown = field + (f"!{conversion}" if conversion else "") + (f":{specification}" if specification else "")
            raise ValueError(f"has {{{shown}}}, which is no plain name in braces")
        yield text, field
