"""HTML from Python values: whatever is not markup already is escaped, so that no text can become markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_VOID = frozenset({"br", "input", "meta"})


class Markup(str):
    """Text that is HTML already; only this module and the renderer of pictures make it."""

    __slots__ = ()


Child = str | None
Attribute = str | int | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """`<name attributes>children</name>`; children that are not Markup are escaped, None is left out.

    Attributes: a trailing underscore is dropped (`class_`), inner ones become hyphens; True is a bare attribute, None
    and False are left out.
    """
    shown = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Markup:
    """Children one after the other."""
    return Markup("".join(_child(child) for child in children))


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[Child]], *, numbers_from: int = 1, name: str = "table"
) -> Markup:
    """A table whose columns and rows have headers; columns from `numbers_from` on are figures, set to the right.

    It scrolls sideways within its own box where it is wider than the page; the box can be reached by keyboard. Roles
    are named since styles that lay a table out as blocks on a phone would take them away.
    """
    heads = [
        element("th", cell, scope="col", role="columnheader", class_=_figures(at, numbers_from))
        for at, cell in enumerate(head)
    ]
    body = [element("tr", *_cells(row, head, numbers_from), role="row") for row in rows]
    inner = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads, role="row"), role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        class_=name,
        role="table",
    )
    return element("div", inner, class_="scroll", role="region", aria_label=caption, tabindex=0)


def _cells(row: Sequence[Child], head: Sequence[str], numbers_from: int) -> list[Markup]:
    first, *rest = row
    cells = [element("th", first, scope="row", role="rowheader")]
    return cells + [
        element("td", cell, role="cell", data_head=head[at], class_=_figures(at, numbers_from))
        for at, cell in enumerate(rest, start=1)
    ]


def _figures(column: int, numbers_from: int) -> str | None:
    return "figure" if column >= numbers_from else None


def bullets(entries: Iterable[Child], name: str = "ul") -> Markup:
    """A list, one item an entry."""
    return element(name, *(element("li", entry) for entry in entries))


def folded(title: Child, *children: Child) -> Markup:
    """What is shown when it is asked for."""
    return element("details", element("summary", title), *children)


def _child(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else escape(child)


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
