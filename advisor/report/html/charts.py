"""Pictures: Vega-Lite specifications to SVG that may stand in a page, by vl-convert. Imported at the last moment."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import vl_convert

from advisor.report.html.markup import Markup
from advisor.report.html.vega import Spec

_SVG = "{http://www.w3.org/2000/svg}"
_ELEMENTS = frozenset({"svg", "g", "path", "rect", "line", "circle", "text", "tspan", "defs", "clipPath"})
_ATTRIBUTES = frozenset(
    {
        *(
            "viewBox",
            "width",
            "height",
            "transform",
            "d",
            "x",
            "y",
            "x1",
            "x2",
            "y1",
            "y2",
            "r",
            "cx",
            "cy",
            "dx",
            "dy",
        ),
        *("fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap"),
        *(
            "stroke-linejoin",
            "stroke-miterlimit",
            "opacity",
            "font-size",
            "font-weight",
            "text-anchor",
            "id",
            "clip-path",
        ),
    }
)
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")


def svg(spec: Spec, prefix: str) -> Markup:
    """The picture of a specification; `prefix` keeps its ids apart from those of other pictures of the page.

    Only what draws is kept: no script, link, style or event handler could come through.
    """
    drawn = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))
    _keep_drawing(drawn, prefix)
    drawn.set("xmlns", "http://www.w3.org/2000/svg")
    drawn.set("focusable", "false")
    return Markup(ElementTree.tostring(drawn, encoding="unicode"))


def _keep_drawing(node: ElementTree.Element, prefix: str) -> None:
    node.tag = node.tag.removeprefix(_SVG)
    for name, value in list(node.attrib.items()):
        del node.attrib[name]
        if name in _ATTRIBUTES and not _idle(node.tag, name, value):
            node.set(name, _shortened(value, prefix if name in {"id", "clip-path"} else None))
    for child in list(node):
        if child.tag.removeprefix(_SVG) not in _ELEMENTS or _draws_nothing(child):
            node.remove(child)
        else:
            _keep_drawing(child, prefix)


def _idle(tag: str, name: str, value: str) -> bool:
    """Attributes that say what holds anyway."""
    return (name == "opacity" and value == "1") or (name == "transform" and value == "translate(0,0)")


def _draws_nothing(node: ElementTree.Element) -> bool:
    return node.get("display") == "none" or (node.tag == f"{_SVG}path" and node.get("d") in {"", "M0,0h0v0h0Z"})


def _shortened(value: str, prefix: str | None) -> str:
    if prefix is not None:
        return value.replace("url(#", f"url(#{prefix}-") if value.startswith("url(#") else f"{prefix}-{value}"
    return _LONG_NUMBER.sub(lambda number: f"{float(number.group()):.2f}", value)
