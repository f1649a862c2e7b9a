"""The graph of images as text, Mermaid and SVG; and that no text of a drawing leaves its room."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from goldenami import svg
from goldenami.report.graph import Image, draw, lines, mermaid, rows

SVG = "{http://www.w3.org/2000/svg}"
DEBIAN = "filter debian-12-amd64-*"


def image(name: str, parent: str | None = None, release: str | None = None, **more: str | None) -> Image:
    base = f"{parent}@stable" if parent else DEBIAN
    return Image(name, base, parent, "stable" if parent else "", "stable", release, **more)


IMAGES = [
    image("web", "base", "1.0.2", built_on="1.0.1", parent_release="1.0.3"),
    image("base", None, "1.0.3"),
    image("app", "web", "1.0.1", built_on="1.0.2", parent_release="1.0.2"),
    image("db", "base", parent_release="1.0.3"),
    image("lost", "elsewhere"),
]


def test_each_image_is_below_what_it_is_built_on() -> None:
    assert lines(IMAGES, releases=True) == [
        "elsewhere@stable",
        "└─ lost       no release in stable",
        "filter debian-12-amd64-*",
        "└─ base       stable 1.0.3",
        "   ├─ db      no release in stable",
        "   └─ web     stable 1.0.2  stale: built on base 1.0.1, stable is 1.0.3 now",
        "      └─ app  stable 1.0.1",
    ]
    assert lines(IMAGES, releases=False, ascii_only=True)[3:] == ["`- base", "   |- db", "   `- web", "      `- app"]


def test_a_cycle_is_shown_and_ends() -> None:
    found = rows([image("a", "b"), image("b", "a"), image("c", "a")])
    assert sorted(row.text for row in found if row.image is not None) == ["a", "b", "c"]


def test_mermaid_marks_what_is_stale_and_has_no_code_of_others() -> None:
    shown = mermaid([*IMAGES, image('x"]; click n0 "http://')], releases=True)
    assert shown[0] == "graph LR"
    (web,) = (line for line in shown if '"web' in line)
    assert web.endswith('["web<br/>stable 1.0.2<br/>stale"]:::stale')
    assert any(line.startswith("  classDef stale ") for line in shown)
    (strange,) = (line for line in shown if "click" in line)
    assert strange.count('"') == 2
    assert sum(" --> " in line for line in shown) == 6


LONG = [image("a-very-long-name-of-an-image-" * 4, None, "1.0.20261124.1"), image("Ｗｉｄｅ" * 30, "a-very")]


@pytest.mark.parametrize("images", [IMAGES, LONG, []], ids=["usual", "long", "none"])
def test_no_texts_of_a_drawing_overlap(images: list[Image]) -> None:
    root = ElementTree.fromstring(draw(images, "Images of <test>", releases=True))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    boxes = [tuple(float(box.get(key, 0)) for key in ("x", "y", "width", "height")) for box in root.iter(f"{SVG}rect")]
    frames = boxes[1:]
    for number, (x, y, wide, high) in enumerate(frames):
        assert x + wide <= width
        assert y + high <= height
        for other_x, other_y, other_wide, other_high in frames[number + 1 :]:
            assert x + wide <= other_x or other_x + other_wide <= x or y + high <= other_y or other_y + other_high <= y
    for text in root.iter(f"{SVG}text"):
        shown = "".join(text.itertext()) if text.find(f"{SVG}title") is None else (text[0].tail or "")
        left, base, size = float(text.get("x", 0)), float(text.get("y", 0)), float(text.get("font-size", 13))
        around = [box for box in frames if box[0] <= left < box[0] + box[2] and box[1] < base < box[1] + box[3]]
        room = around[0][0] + around[0][2] if around else width
        assert left + svg.width_of(shown, size, bold="font-weight" in text.attrib) <= room + 0.1, shown


def test_a_text_that_does_not_fit_is_cut_and_has_a_tooltip() -> None:
    assert svg.fitted("short", 100) == "short"
    cut = svg.fitted("a long name " * 10, 100)
    assert cut.endswith("…")
    assert svg.width_of(cut) <= 100
    element = ElementTree.fromstring(svg.text(0, 0, "<a long name> " * 10, width=100))
    assert element[0].text == "<a long name> " * 10
