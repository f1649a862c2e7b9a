"""Writes the pages of the site into a folder, which is replaced as a whole at the end."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment as Jinja
from jinja2 import FileSystemLoader, StrictUndefined
from markupsafe import Markup

from goldenami import __version__
from goldenami.errors import OutputFailed, UsageError
from goldenami.evidence import packages, sbom, signing
from goldenami.evidence.packages import Component, Inventory, purl
from goldenami.model import Architecture, ImageManifest, ManifestImage, Package, timestamp
from goldenami.nextstep import command
from goldenami.release import history_picture
from goldenami.release.attest import PROVENANCE
from goldenami.release.catalogfiles import Move
from goldenami.release.retention import Lifetime
from goldenami.site import chart
from goldenami.site.gather import NEWEST, NameFacts, ReleaseFacts, Site, data_of

MARK: Final = ".goldenami-site"  # of a folder that this program wrote, and may replace
CATALOG_SCHEMA: Final = "goldenami.site/1"
_FEED_ENTRIES: Final = 50


@dataclass(frozen=True, slots=True)
class Written:
    """What was written. ``bytes``: of all files; ``first``: of the first page with its style sheet and script."""

    pages: int
    bytes: int
    first: int


@dataclass(frozen=True, slots=True)
class _Row:
    """A release in the table of its recipe."""

    version: str
    created: str
    marks: Any
    changed: int | None
    instances: int | None
    deprecated: datetime | None


def write(site: Site, out: Path) -> Written:
    """Write the site to ``out``, in place of an earlier one there, at once: a reader finds the old or the new one.

    Raises UsageError if ``out`` is a folder with other files; OutputFailed if it cannot be written.
    """
    if out.is_symlink() or (out.exists() and not (out / MARK).is_file() and not _is_empty(out)):
        raise UsageError(
            f"{out} has other files, which would be deleted", hint="Choose a folder that is new or empty with --out."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise OutputFailed(f"{out} cannot be written: {error.strerror}") from None
    try:
        folder.chmod(0o755)
        written = _Writer(site, folder).write()
        _replace(folder, out)
    except OSError as error:
        raise OutputFailed(f"{out} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return written


def _is_empty(path: Path) -> bool:
    return path.is_dir() and next(path.iterdir(), None) is None


def _replace(folder: Path, out: Path) -> None:
    old = None
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        os.rename(out, old / "old")  # noqa: PTH104
    os.rename(folder, out)  # noqa: PTH104
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Bill:
    """The bill of materials of an image. ``files``: names of formats, and links."""

    architecture: Architecture
    inventory: Inventory
    files: tuple[tuple[str, str], ...]


class _Writer:
    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self._folder = folder
        self._pages = self._bytes = 0
        self._jinja = Jinja(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._jinja.globals.update(
            site=site,
            program=__version__,
            link=_link,
            package_items=_package_items,
            component_rows=_component_rows,
            command=command,
        )
        self._search: list[tuple[str, str, str]] = []
        self._entries: list[dict[str, str]] = []

    def write(self) -> Written:
        site = self._site
        names = [self._name(name) for name in site.names]
        channels = site.channel_names()
        board = [
            (name, _cells(name, channels), name.marks[name.releases[0]] if name.releases else None)
            for name in site.names
        ]
        releases = sum(len(name.releases) for name in site.names)
        first = self._page("index.html", "index.html.j2", root="", channels=channels, rows=board, releases=releases)
        for file in ("style.css", "site.js"):
            first += self._write(file, Path(__file__).with_name("static").joinpath(file).read_text("utf-8"))
        rows_text = json.dumps(self._search, ensure_ascii=False, separators=(",", ":"))
        self._write("search.js", f"window.INDEX = {rows_text};\n")
        entries = sorted(self._entries, key=lambda one: one["time"], reverse=True)
        self._feed("feed.atom", site.title, site.environment.name, entries)
        document = {"schema": CATALOG_SCHEMA, "environment": site.environment.name, "made": timestamp(site.made)}
        self._write("catalog.json", json.dumps({**document, "images": names}, ensure_ascii=False) + "\n")
        self._write(MARK, "goldenami wrote this folder, and replaces it as a whole.\n")
        return Written(self._pages, self._bytes, first)

    # --- pages --------------------------------------------------------------------------------------------------------

    def _name(self, name: NameFacts) -> dict[str, Any]:
        folder = f"images/{name.name}"
        rows: list[_Row] = []
        points: list[chart.Point] = []
        listed: list[dict[str, Any]] = []
        self._search.append((f"{name.name} {name.description}".lower(), name.name, f"{folder}/index.html"))
        images: dict[str, list[ManifestImage]] = {channel.current: [] for channel in name.channels}
        wanted = {*name.releases[:NEWEST], *(channel.current for channel in name.channels)}
        for release in self._site.read(name):
            manifest = release.manifest
            inventories = self._inventories(manifest) if manifest.version in wanted else {}
            self._release(folder, release, inventories)
            if manifest.version in images:
                images[manifest.version] = _ordered(manifest)
            rows.append(_row(release))
            created = datetime.fromisoformat(manifest.created)
            points.append(chart.Point(manifest.version, created, release.packages, release.size_gib))
            listed.append(_form(release))
            data = json.dumps(data_of(manifest, inventories), ensure_ascii=False, separators=(",", ":"))
            self._write(f"{folder}/data/{manifest.version}.js", f'window.RELEASES["{manifest.version}"] = {data};\n')
            ids = " ".join(sorted({image.image_id for image in manifest.images}))
            link = f"{folder}/{manifest.version}.html"
            self._search.append((f"{manifest.label} {ids}".lower(), manifest.label, link))
        rows.reverse()
        listed.reverse()
        picture = chart.draw(points, f"{name.name}: packages and size") if points else ""
        past = history_picture.draw(list(reversed(name.history)), f"History of {name.name}")
        facts = {"name": name, "rows": rows, "chart": picture, "past": past, "images": images}
        self._page(f"{folder}/index.html", "name.html.j2", root="../../", **facts)
        facts = {"name": name, "versions": [row.version for row in rows], "newest": NEWEST}
        self._page(f"{folder}/compare.html", "compare.html.j2", root="../../", **facts)
        for channel in name.channels:
            label = f"{name.name}@{channel.channel}"
            entries = [_entry(label, move) for move in reversed(channel.history)]
            self._feed(f"{folder}/{channel.channel}.atom", label, label, entries)
            self._entries += [{**entry, "link": f"{folder}/{entry['link']}"} for entry in entries]
        return {
            "name": name.name,
            "description": name.description,
            "owner": name.owner,
            "channels": {c.channel: {"version": c.current, "since": c.history[-1].moved} for c in name.channels},
            "releases": listed,
        }

    def _release(self, folder: str, release: ReleaseFacts, inventories: Mapping[Architecture, Inventory]) -> None:
        manifest = release.manifest
        # The bill of materials is the heaviest part of a page: only people who use a release need it.
        current = bool(release.marks.channels)
        controls = [one for test in manifest.tests if test.gate == "image" for one in test.controls]
        controls = controls or [one for test in manifest.tests for one in test.controls]
        self._page(
            f"{folder}/{manifest.version}.html",
            "release.html.j2",
            root="../../",
            release=release,
            rows=_ordered(manifest),
            bills=self._bills(folder, manifest, inventories) if current else [],
            keys=self._keys(manifest) if current else None,
            scans=self._site.scan.images.get(manifest.label) if self._site.scan is not None else None,
            controls=controls,
            controls_passed=sum(one.outcome == "passed" for one in controls),
            controls_odd=[one for one in controls if one.outcome != "passed"],
        )

    def _inventories(self, manifest: ImageManifest) -> dict[Architecture, Inventory]:
        """Return what is in the images of a release, as far as it can be read."""
        found: dict[Architecture, Inventory] = {}
        for architecture in manifest.inventories:
            with self._site.failures.of(f"inventory of {manifest.label} {architecture}"):
                text = self._site.catalog.inventory(manifest, architecture)
                found[architecture] = packages.loads(text, source=f"inventory of {manifest.label}")
        return found

    def _bills(
        self, folder: str, manifest: ImageManifest, inventories: Mapping[Architecture, Inventory]
    ) -> list[_Bill]:
        """Write the bills of materials of a release as files, and return them for its page."""
        found = []
        for architecture, inventory in inventories.items():
            created, about = manifest.created, manifest.description
            subject = sbom.Subject(manifest.recipe, manifest.version, architecture, created, about)
            files = []
            for form, write in sbom.FORMATS.items():
                link = f"sbom/{manifest.version}-{architecture}.{form}.json"
                self._write(f"{folder}/{link}", write(inventory, subject))
                files.append((form, link))
            found.append(_Bill(architecture, inventory, tuple(files)))
        return found

    def _keys(self, manifest: ImageManifest) -> list[str] | None:
        """Return the ids of the keys that a release names as its signers; None if it is not signed, and an empty list
        if its statement cannot be read or has no signature."""
        with self._site.failures.of(f"signature of {manifest.label}"):
            data = self._site.catalog.document(manifest.recipe, manifest.version, PROVENANCE)
            if data is None:
                return None
            with suppress(signing.NotAnEnvelope):
                return [one.key_id for one in signing.read_envelope(data).signatures]
        return []

    # --- files --------------------------------------------------------------------------------------------------------

    def _page(self, path: str, template: str, **facts: Any) -> int:
        self._pages += 1
        return self._write(path, self._jinja.get_template(template).render(facts))

    def _feed(self, path: str, title: str, id: str, entries: Sequence[dict[str, str]]) -> None:
        updated = entries[0]["time"] if entries else timestamp(self._site.made)
        facts = {"title": title, "id": id, "updated": updated, "entries": entries[:_FEED_ENTRIES]}
        self._write(path, self._jinja.get_template("feed.atom.j2").render(facts))

    def _write(self, path: str, text: str) -> int:
        file = self._folder / path
        data = text.encode()
        try:
            file.write_bytes(data)
        except FileNotFoundError:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        self._bytes += len(data)
        return len(data)


@dataclass(frozen=True, slots=True)
class _Cell:
    """A channel on the board."""

    version: str
    created: str
    deprecated: datetime | None
    unusable: str | None


def _cells(name: NameFacts, channels: Sequence[str]) -> list[_Cell | None]:
    """Return what a recipe has in each of these channels; None where it does not have the channel."""
    own: dict[str, _Cell] = {}
    for one in name.channels:
        life = name.lifetimes.get(one.current)
        deprecated = life.deprecated if life is not None else None
        own[one.channel] = _Cell(one.current, one.created or one.history[-1].moved, deprecated, one.unusable)
    return [own.get(channel) for channel in channels]


def _row(release: ReleaseFacts) -> _Row:
    changed = sum(map(len, release.changes.packages.values())) if release.changes is not None else None
    used = release.used.instances if release.used is not None else None
    deprecated = release.lifetime.deprecated if release.lifetime is not None else None
    return _Row(release.manifest.version, release.manifest.created, release.marks, changed, used, deprecated)


def _ordered(manifest: ImageManifest) -> list[ManifestImage]:
    return sorted(manifest.images, key=lambda one: (one.architecture, one.account, one.region))


def _form(release: ReleaseFacts) -> dict[str, Any]:
    manifest = release.manifest
    return {
        "version": manifest.version,
        "created": manifest.created,
        "channels": list(release.marks.channels),
        "states": list(release.marks.states),
        **_dates(release.lifetime),
        "images": [
            {"account": i.account, "region": i.region, "architecture": i.architecture, "image_id": i.image_id}
            for i in manifest.images
        ],
    }


def _dates(life: Lifetime | None) -> dict[str, str | None]:
    times = (life.deprecated, life.disabled, life.deleted) if life is not None else (None, None, None)
    texts = (timestamp(time) if time is not None else None for time in times)
    return dict(zip(("deprecated", "disabled", "deleted"), texts, strict=True))


def _entry(label: str, move: Move) -> dict[str, str]:
    reason = f": {move.reason}" if move.reason else ""
    return {
        "title": f"{label} is {move.version}",
        "id": f"{label}:{move.version}:{move.moved}",
        "time": move.moved,
        "link": f"{move.version}.html",
        "summary": f"{move.action}{reason}",
    }


def _link(label: str, site: Site) -> Markup:
    """Return a link to a release, from the page of another one; its label alone if the site does not have it."""
    name, _, version = label.partition(" ")
    known = any(one.name == name and version in one.marks for one in site.names)
    return (
        Markup('<a href="../{}/{}.html">{}</a>').format(name, version, label) if known else Markup("{}").format(label)
    )


def _package_items(packages: Iterable[Package]) -> Markup:
    """Return the items of a list of packages: a template needs three times as long for the longest part of a page."""
    return Markup("".join([_package_item(one.name, one.version) for one in packages]))


@lru_cache(maxsize=20_000)
def _package_item(name: str, version: str) -> str:
    """Return one item. The releases of a recipe have most packages in common."""
    return f"<li>{escape(name)} {escape(version)}</li>\n"


def _component_rows(inventory: Inventory) -> Markup:
    """Return the rows of a bill of materials."""
    return Markup("".join(_component_row(one, inventory) for one in inventory.components))


def _component_row(one: Component, inventory: Inventory) -> str:
    cells = (one.version, f"{one.source} {one.source_version}".strip(), ", ".join(one.licences), purl(one, inventory))
    return f'<tr><th scope="row">{escape(one.name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>\n'
