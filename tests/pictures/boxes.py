"""The boxes of the texts of an SVG document, by the table of widths and without a browser."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from goldenami import svg

SVG = "{http://www.w3.org/2000/svg}"
_TITLES = re.compile(r"translate\(0 ([0-9.]+)\)")


@dataclass(frozen=True)
class Box:
    text: str
    left: float
    top: float
    right: float
    bottom: float
    fill: str

    def is_on(self, other: Box) -> bool:
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide > 0.1 and high > 0.1


def texts(document: str) -> list[Box]:
    """Return the box of each text: from its highest letter to the lowest part below its line."""
    return _texts(ElementTree.fromstring(document), 0.0)


def _texts(element: ElementTree.Element, down: float) -> list[Box]:
    found: list[Box] = []
    moved = _TITLES.fullmatch(element.get("transform", ""))
    down += float(moved[1]) if moved else 0.0
    if element.tag == f"{SVG}text":
        content = "".join(element.itertext())
        size = float(element.get("font-size", svg.SIZE))
        width = svg.width_of(content, size, bold="font-weight" in element.attrib)
        x, y = float(element.attrib["x"]), float(element.attrib["y"]) + down
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[element.get("text-anchor", "start")]
        found.append(Box(content, left, y - size * 0.8, left + width, y + size * 0.25, element.attrib["fill"]))
    for child in element:
        found += _texts(child, down)
    return found


def problems(document: str) -> list[str]:
    """Return what is wrong: texts that leave the picture, and texts on each other."""
    root = ElementTree.fromstring(document)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = texts(document)
    found = [
        f"outside: {one.text}"
        for one in boxes
        if one.left < 0 or one.top < 0 or one.right > width or one.bottom > height
    ]
    for number, one in enumerate(boxes):
        found += [f"{one.text} is on {other.text}" for other in boxes[number + 1 :] if one.is_on(other)]
    return found


def colours(document: str) -> set[str]:
    """Return the colors of texts."""
    return {one.fill for one in texts(document)}
