"""Inline SVG: matplotlib's drawing made fit to stand in a page with a strict content security policy."""

from __future__ import annotations

import re
from xml.etree import ElementTree

# Colours that matplotlib draws with, each standing for a role; the stylesheet gives the role its real colour.
ROLES = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "c0": "#0a0000",
    "c1": "#0b0000",
    "c2": "#0c0000",
    "c3": "#0d0000",
    "c4": "#0e0000",
    "c5": "#0f0000",
}
_NAMES = {colour: name for name, colour in ROLES.items()}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_DROPPED = {"font-family", "font-style", "font-variant", "font-weight", "font-stretch"}


def to_inline(drawn: bytes, key: str, title: str, description: str) -> str:
    """Turn a drawing into an `<svg>` element: no style, nothing from outside, ids that begin with `key`."""
    root = ElementTree.fromstring(drawn)
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        _restyle(element)
        _readdress(element, key)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": box,
            "class": f"chart {key.rpartition('-')[2]}",
            "role": "img",
            "aria-labelledby": f"{key}-title {key}-desc",
            "focusable": "false",
        }
    )
    for tag, text in (("desc", description), ("title", title)):
        element = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        element.text = text
        root.insert(0, element)
    return ElementTree.tostring(root, encoding="unicode")


def _restyle(element: ElementTree.Element) -> None:
    roles = set()
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # the shorthand is no presentation attribute
            size = re.search(r"([\d.]+)px", value)
            name, value = "font-size", size.group(1) if size else ""
        if name in ("fill", "stroke") and value.lower() in _NAMES:
            roles.add(f"{name}-{_NAMES[value.lower()]}")
        elif name and value and name not in _DROPPED:
            element.set(name, value.removesuffix("px"))
    if roles:
        element.set("class", " ".join(sorted(roles)))


def _readdress(element: ElementTree.Element, key: str) -> None:
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set("id", f"{key}-{value}")
        elif name == f"{{{_XLINK}}}href":
            del element.attrib[name]
            element.set("href", f"#{key}-{value.removeprefix('#')}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{key}-"))


def _local(tag: str) -> str:
    return tag.removeprefix(f"{{{_SVG}}}")
