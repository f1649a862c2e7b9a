"""The graph of images: which is built on which, as text, as Mermaid and as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from goldenami import svg

_GAP: Final = 14  # pixels, below a box
_ARROW: Final = 56  # between two columns
_PAD: Final = 12
_WIDEST: Final = 320.0  # a wider text goes on in the next line
_FILL: Final = {"": svg.PALE_BLUE, "stale": svg.PALE_ORANGE, "base": svg.PALE_GREY}
_LINE: Final = {"": svg.BLUE, "stale": svg.ORANGE, "base": svg.GREY}
_DASHED: Final = 'stroke-dasharray="6 4"'


@dataclass(frozen=True, slots=True)
class Image:
    """A recipe. ``base``: what it is built on, as text; ``parent``: the recipe of its base, if it is one of the graph.

    ``release``: the version in its ``channel``, None if there is none or the catalog was not read. ``built_on``: the
    version of the parent that this release was built on; ``parent_release``: the version that a build would use now.
    """

    name: str
    base: str
    parent: str | None
    parent_channel: str
    channel: str
    release: str | None = None
    built_on: str | None = None
    parent_release: str | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the channel of its parent moved since this release was built."""
        return None not in (self.built_on, self.parent_release) and self.built_on != self.parent_release

    @property
    def label(self) -> str:
        """Its channel and version: "candidate 1.4.20261124.1"."""
        return f"{self.channel} {self.release}" if self.release else f"no release in {self.channel}"

    @property
    def why(self) -> str:
        """Why it is stale; "" if it is not."""
        if not self.is_stale:
            return ""
        now = f"{self.parent_channel} is {self.parent_release} now"
        return f"stale: built on {self.parent} {self.built_on}, {now}"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "base": self.base or None,
            "parent": self.parent,
            "parent_channel": self.parent_channel or None,
            "channel": self.channel,
            "release": self.release,
            "built_on": self.built_on,
            "parent_release": self.parent_release,
            "stale": self.is_stale,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the graph. ``image``: None for a base that is no recipe. ``last``: for each level, whether no sibling
    follows."""

    text: str
    image: Image | None
    depth: int
    last: tuple[bool, ...]


def rows(images: Sequence[Image]) -> list[Row]:
    """Return the bases and, below each, the images that are built on it, in the order of the alphabet. Recipes that
    are in a cycle stand below their base as it is written."""
    known = {image.name for image in images}
    below: dict[str, list[Image]] = {}
    roots: dict[str, list[Image]] = {}
    for image in sorted(images, key=lambda image: image.name):
        if image.parent in known and image.parent is not None and not _in_cycle(image, images):
            below.setdefault(image.parent, []).append(image)
        else:
            roots.setdefault(image.base or "cannot be read", []).append(image)
    found: list[Row] = []
    for base, children in sorted(roots.items()):
        found.append(Row(base, None, 0, ()))
        found += _rows(children, below, ())
    return found


def _rows(children: Sequence[Image], below: Mapping[str, Sequence[Image]], last: tuple[bool, ...]) -> Iterator[Row]:
    for number, image in enumerate(children, 1):
        mine = (*last, number == len(children))
        yield Row(image.name, image, len(mine), mine)
        yield from _rows(below.get(image.name, ()), below, mine)


def _in_cycle(image: Image, images: Sequence[Image]) -> bool:
    parents = {one.name: one.parent for one in images}
    walked = {image.name}
    current = image.parent
    while current is not None:
        if current in walked:
            return True
        walked.add(current)
        current = parents.get(current)
    return False


def lines(images: Sequence[Image], *, releases: bool, ascii_only: bool = False) -> list[str]:
    """Return the graph as text, one line for each image. ``releases``: add channels, versions and what is stale."""
    bar, tee, corner = ("|  ", "|- ", "`- ") if ascii_only else ("│  ", "├─ ", "└─ ")
    heads = []
    for row in rows(images):
        trunk = "".join("   " if last else bar for last in row.last[:-1])
        branch = (corner if row.last[-1] else tee) if row.last else ""
        heads.append((f"{trunk}{branch}{row.text}", row.image))
    width = max((len(head) for head, image in heads if image is not None), default=0)
    return [
        head
        if image is None or not releases
        else f"{head:<{width}}  {'  '.join(filter(None, (image.label, image.why)))}"
        for head, image in heads
    ]


def mermaid(images: Sequence[Image], *, releases: bool) -> list[str]:
    """Return the graph as a Mermaid flowchart, which GitLab and GitHub draw in Markdown."""
    result = ["graph LR"]
    ids = {}
    base = ""
    for number, row in enumerate(rows(images)):
        if row.image is None:
            base = f"n{number}"
            result.append(f'  {base}(["{_quoted(row.text)}"])')
            continue
        image = row.image
        id = ids[image.name] = f"n{number}"
        words = [image.name, *([image.label] if releases else []), *(["stale"] if image.is_stale else [])]
        result.append(f'  {id}["{"<br/>".join(map(_quoted, words))}"]{":::stale" if image.is_stale else ""}')
        result.append(f"  {base if row.depth == 1 else ids[image.parent or '']} --> {id}")
    if any(image.is_stale for image in images):
        result.append(f"  classDef stale fill:{_FILL['stale']},stroke:{_LINE['stale']}")
    return result


def _quoted(words: str) -> str:
    """Return text for a label of Mermaid, which has its own codes for characters."""
    kept = "".join(c if c.isprintable() else " " for c in words)
    return "".join(f"#{ord(c)};" if c in '"#<>&;`\\' else c for c in kept)


def draw(images: Sequence[Image], title: str, *, releases: bool) -> str:
    """Return the graph as an SVG document: bases on the left, and each image to the right of what it is built on. A
    dashed line leads to an image that is stale."""
    every = [(row, _words(row, releases)) for row in rows(images)]
    columns: dict[int, float] = {}
    for row, words in every:
        wide = max(svg.width_of(text, bold=bold) for text, bold in words) + 2 * _PAD
        columns[row.depth] = max(columns.get(row.depth, 80.0), wide)
    lefts = {0: float(svg.MARGIN)}
    for depth in range(1, len(columns)):
        lefts[depth] = lefts[depth - 1] + columns[depth - 1] + _ARROW
    parts: list[str] = []
    ends: dict[int, float] = {}  # depth -> the lower end of the last box there
    y = 4.0
    for row, words in every:
        high = len(words) * svg.LEAD + 14.0
        kind = "base" if row.image is None else "stale" if row.image.is_stale else ""
        if row.depth:
            x = lefts[row.depth - 1] + columns[row.depth - 1] / 2
            steps = f"M{x:.1f} {ends[row.depth - 1]:.1f}V{y + high / 2:.1f}H{lefts[row.depth]:.1f}"
            stale = kind == "stale"
            parts.insert(0, svg.path(steps, _LINE[kind if stale else "base"], width=1.5, more=_DASHED * stale))
        frame = columns[row.depth]
        parts.append(svg.rect(lefts[row.depth], y, frame, high, fill=_FILL[kind], stroke=_LINE[kind], more='rx="5"'))
        for number, (text, bold) in enumerate(words):
            parts.append(svg.text(lefts[row.depth] + _PAD, y + 19 + number * svg.LEAD, text, bold=bold))
        ends[row.depth] = y + high
        y += high + _GAP
    stale_images = sum(image.is_stale for image in images)
    summary = f"{len(images)} image{'s' if len(images) != 1 else ''}"
    summary += f", {stale_images} stale (dashed)" if stale_images else ""
    width = max(480.0, lefts[len(columns) - 1] + columns[len(columns) - 1] + svg.MARGIN) if columns else 480.0
    return svg.document(width, y + 6, title, summary, parts)


def _words(row: Row, releases: bool) -> list[tuple[str, bool]]:
    """Return the lines of a box, and whether each is bold."""
    found = [(line, row.image is not None) for line in svg.wrapped(row.text, _WIDEST, bold=row.image is not None)]
    if row.image is not None and releases:
        for text in filter(None, (row.image.label, row.image.why)):
            found += [(line, False) for line in svg.wrapped(text, _WIDEST)]
    return found
