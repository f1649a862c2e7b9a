"""The graph of images as text and as Mermaid. tests/pictures has its drawing."""

from __future__ import annotations

from goldenami.report.graph import Image, lines, mermaid, rows

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
