"""Every picture: each text has room of its own, and can be read on both backgrounds."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from goldenami import svg
from goldenami.snapshots import chart
from tests.pictures import boxes, gallery

CASES = [(name, *size) for name, size in itertools.product(gallery.PICTURES, gallery.SIZES)]


@pytest.mark.parametrize(("name", "count", "long"), CASES, ids=[f"{n}-{c}{'-long' * lo}" for n, c, lo in CASES])
def test_no_text_is_outside_or_on_another_one(name: str, count: int, long: bool) -> None:
    document = gallery.PICTURES[name](count, long)
    assert boxes.problems(document) == []
    assert "…" not in document, "no name is cut"
    assert boxes.colours(document) <= {*svg.DARK, *svg.DARK.values()}, "each has a partner in dark mode"


def test_the_check_finds_what_it_is_for() -> None:
    def document(*parts: str) -> list[str]:
        return boxes.problems(svg.document(200, 100, "title", "summary", parts))

    assert document(svg.text(10, 20, "one"), svg.text(10, 40, "two")) == []
    assert document(svg.text(10, 20, "one"), svg.text(20, 22, "two")) == ["one is on two"]
    assert document(svg.text(190, 20, "one")) == ["outside: one"]
    assert document(svg.text(10, 20, "one", anchor="end")) == ["outside: one"]
    assert document(svg.text(10, 110, "one")) == ["outside: one"]


@pytest.mark.parametrize(
    "text", ["", "one", gallery.LONG, gallery.WIDE, "two words " * 30, "arn:aws:iam::1:role/x" * 9]
)
def test_lines_have_the_whole_text(text: str) -> None:
    lines = svg.wrapped(text, 120)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    assert all(svg.width_of(line) <= 120 for line in lines)


def test_a_word_is_kept_whole_if_it_fits_into_a_line() -> None:
    assert svg.wrapped("snap-0123 and vol-4567", 90) == ["snap-0123", "and", "vol-4567"]
    assert svg.wrapped("one-two-three", 70) == ["one-two-", "three"]


def light(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
def test_texts_have_contrast(dark: bool) -> None:
    """4.5 to 1, as WCAG 2.2 wants it (1.4.3), on each background that a text can have."""
    shown = {colour: svg.DARK[colour] if dark else colour for colour in svg.DARK}
    for text in (svg.INK, svg.GREY, svg.BLUE, svg.ORANGE, svg.RED, svg.GREEN):
        lights = sorted((light(shown[text]), light(shown[svg.PAPER])))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5, text
    for pale in (svg.PALE_BLUE, svg.PALE_ORANGE, svg.PALE_GREY):
        lights = sorted((light(shown[svg.INK]), light(shown[pale])))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5, pale


def test_forty_snapshots_look_different() -> None:
    root = ElementTree.fromstring(gallery.snapshots(40, False))
    looks: list[tuple[str | None, ...]] = []
    swatches = [one for one in root.iter(f"{boxes.SVG}rect") if one.get("width") == one.get("height") == "16.0"]
    for one in swatches:
        if one.get("fill", "").startswith("url"):
            looks[-1] = (*looks[-1], one.get("fill"))
        else:
            looks.append((one.get("fill"),))
    assert len(looks) == len(set(looks)) == 40
    defined = {f"url(#{one.get('id')})" for one in root.iter(f"{boxes.SVG}pattern")}
    assert {look[1] for look in looks if len(look) > 1} == defined
    numbers = [box.text for box in boxes.texts(chart.draw([], "nothing", "USD"))]
    assert "0 snapshots in 0 places" in numbers


def test_text_of_others_is_no_markup() -> None:
    document = svg.document(
        300, 20, "<script>", '"&', [svg.text(1, 9, "</text>"), svg.rect(0, 0, 1, 1, fill="", tip="<")]
    )
    assert [box.text for box in boxes.texts(document)] == ["<script>", '"&', "</text>"]
