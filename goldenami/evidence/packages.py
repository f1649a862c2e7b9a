"""The inventory of an image: its packages, the packages of other languages, and files that no package owns.

The text of the host is a stranger's: everything is bounded, and a line that is not as expected is left out. A text that
was cut is not taken for the whole: the inventory says so.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from goldenami import forms
from goldenami.errors import CatalogError
from goldenami.os import MANAGERS

SCHEMA: Final = "goldenami.inventory/1"
_COMPONENTS: Final = 50_000
_FIELD: Final = 500  # characters
_LICENCES: Final = 50  # of one package
_MODULES: Final = 5_000  # of one Go program


@dataclass(frozen=True, slots=True)
class Component:
    """An installed package. ``type``: that of its package URL: deb, rpm, pypi, npm, golang or maven.

    ``group``: the group of a Maven project. ``source``, ``source_version``: the source package that it was built from;
    distributions tell vulnerabilities of source packages. ``licences``: as the package names them; empty if it names
    none in a form for programs. ``path``: the file that shows a package which no package manager of the system
    installed.
    """

    type: str
    name: str
    version: str
    architecture: str = ""
    group: str = ""
    source: str = ""
    source_version: str = ""
    supplier: str = ""
    licences: tuple[str, ...] = ()
    homepage: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class UnownedFile:
    """A file that no package owns. ``sha256``: empty if it was not read, because the files were too large."""

    path: str
    size: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is in an image. ``system``, ``release``, ``codename``: from /etc/os-release. ``files_not_listed``: the
    number of files that no package owns beyond those in ``files``. ``complete``: False if the text of the host, or
    a list in it, was cut.
    """

    system: str
    release: str
    codename: str
    components: tuple[Component, ...]
    files: tuple[UnownedFile, ...] = ()
    files_not_listed: int = 0
    complete: bool = True
    schema: str = SCHEMA

    @property
    def packages(self) -> tuple[Component, ...]:
        """The packages of the system's package manager."""
        return tuple(one for one in self.components if one.type in SYSTEM_TYPES)


SYSTEM_TYPES: Final = frozenset(manager.package_type for manager in MANAGERS.values())


def purl(component: Component, inventory: Inventory) -> str:
    """Return the package URL of a component (https://github.com/package-url/purl-spec)."""
    return _purl(component, inventory.system, inventory.release)


@lru_cache(maxsize=20_000)  # a document and a page need each several times, and releases have most in common
def _purl(component: Component, system: str, release: str) -> str:
    type, name, version, namespace = component.type, component.name, component.version, ""
    qualifiers: dict[str, str] = {}
    if type in SYSTEM_TYPES:
        namespace = system
        qualifiers = {"arch": component.architecture, "distro": f"{system}-{release}"}
        epoch, colon, rest = version.partition(":")
        if colon and type == "rpm":
            version, qualifiers["epoch"] = rest, epoch
    elif type == "pypi":
        name = name.lower().replace("_", "-")
    elif type in ("npm", "golang"):
        namespace, _, name = name.rpartition("/")
    elif type == "maven":
        namespace = component.group
        type = "maven" if namespace else "generic"  # a Maven project is not known without its group
    where = "".join(f"{quote(part, safe='')}/" for part in namespace.split("/") if part)
    more = "&".join(f"{key}={quote(value, safe='')}" for key, value in sorted(qualifiers.items()) if value)
    at = f"@{quote(version, safe=':')}" if version else ""
    return f"pkg:{type}/{where}{quote(name, safe='')}{at}{'?' if more else ''}{more}"


# --- the text of a host -----------------------------------------------------------------------------------------------


def parse(text: str) -> Inventory | None:
    """Return the inventory in the text of ``provision.INVENTORY``; None if the text has none."""
    sections = _sections(text)
    system = next(iter(_rows(sections, "system", 3)), None)
    if system is None:
        return None
    id, release, codename = system
    manager = next(iter(sections.get("manager", ())), "")
    found = [*_system_packages(sections, manager), *_pip(sections), *_npm(sections), *_java(sections), *_go(sections)]
    files, rest = _files(sections)
    components = sorted(set(found), key=_order)
    complete = "end" in sections and len(components) <= _COMPONENTS
    return Inventory(id, release, codename, tuple(components[:_COMPONENTS]), files, rest, complete)


def _sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section. Lines without a leading space are messages of programs, and left out."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("="):
            current = found.setdefault(line[1:], [])
        elif line.startswith(" "):
            current.append(line[1:])
    return found


def _rows(sections: Mapping[str, list[str]], name: str, fields: int) -> Iterator[list[str]]:
    for line in sections.get(name, ()):
        row = line.split("\t")
        if len(row) == fields:
            yield [_clean(field) for field in row]


def _clean(field: str) -> str:
    return "".join(c for c in field if c.isprintable()).strip()[:_FIELD]


def _order(one: Component) -> tuple[str, ...]:
    return (one.type, one.group, one.name, one.architecture, one.version, one.path)


def _system_packages(sections: Mapping[str, list[str]], manager: str) -> Iterator[Component]:
    if manager not in MANAGERS:
        return
    type = MANAGERS[manager].package_type
    licences: dict[str, list[str]] = {}
    for word, name, licence in _rows(sections, "packages", 3):
        if word == "licence":
            licences.setdefault(name, []).append(licence)
    for row in _rows(sections, "packages", 10):
        word, status, name, version, architecture, source, source_version, supplier, licence, homepage = row
        if word != "package" or status[1:2] != "i" or name == "gpg-pubkey":
            continue
        if source.endswith(".src.rpm"):
            source, source_version = _of_source_rpm(source, version)
        named = [licence] if licence and licence != "(none)" else licences.get(name, [])
        yield Component(
            type,
            name,
            version,
            architecture,
            source=source or name,
            source_version=source_version or version,
            supplier="" if supplier == "(none)" else supplier,
            licences=tuple(sorted(set(named)))[:_LICENCES],
            homepage="" if homepage == "(none)" else homepage,
        )


def _of_source_rpm(file: str, version: str) -> tuple[str, str]:
    """Return name and version of a source package by its file name. It has the epoch of the package."""
    name, _, release = file.removesuffix(".src.rpm").rpartition("-")
    name, _, number = name.rpartition("-")
    epoch, colon, _ = version.partition(":")
    return name, f"{epoch}{colon}{number}-{release}" if colon else f"{number}-{release}"


def _pip(sections: Mapping[str, list[str]]) -> Iterator[Component]:
    by_path: dict[str, dict[str, str]] = {}
    for path, header in _rows(sections, "pip", 2):
        key, _, value = header.partition(": ")
        by_path.setdefault(path, {}).setdefault(key, value)
    for path, headers in by_path.items():
        name, version = headers.get("Name", ""), headers.get("Version", "")
        licence = headers.get("License-Expression") or headers.get("License", "")
        if name and version:
            named = (licence,) if licence and licence != "UNKNOWN" else ()
            supplier, homepage = headers.get("Author", ""), headers.get("Home-page", "")
            yield Component(
                "pypi", name, version, supplier=supplier, licences=named, homepage=homepage.strip(), path=path
            )


_NPM_NAME: Final = re.compile(r".*/node_modules/((?:@[^/]+/)?[^/]+)/package\.json")
_NPM_VALUE: Final = re.compile(r'"(version|license)"\s*:\s*"([^"]*)"')


def _npm(sections: Mapping[str, list[str]]) -> Iterator[Component]:
    by_path: dict[str, dict[str, str]] = {}
    for path, member in _rows(sections, "npm", 2):
        value = _NPM_VALUE.fullmatch(member)
        if value is not None:
            by_path.setdefault(path, {}).setdefault(value[1], value[2])
    for path, values in by_path.items():
        name = _NPM_NAME.fullmatch(path)
        if name is not None and values.get("version"):
            licences = (values["license"],) if values.get("license") else ()
            yield Component("npm", name[1], values["version"], licences=licences, path=path)


_JAR: Final = re.compile(r"([A-Za-z][A-Za-z0-9._-]*?)-([0-9][A-Za-z0-9._+-]*)\.(?:jar|war|ear)")
_MAVEN: Final = re.compile(r"META-INF/maven/([^/]+)/([^/]+)/pom\.properties")


def _java(sections: Mapping[str, list[str]]) -> Iterator[Component]:
    """Yield the archives and what is in them. The version of a project is that in the name of its archive: a version
    inside is compressed, and a host need not have a tool that reads it."""
    inside: dict[str, list[str]] = {}
    for line in sections.get("java", ()):
        path, _, entry = line.partition("\t")
        entries = inside.setdefault(_clean(path), [])
        if entry:
            entries.append(_clean(entry))
    for path, entries in inside.items():
        named = _JAR.fullmatch(path.rpartition("/")[2])
        groups = {found[2]: found[1] for entry in entries if (found := _MAVEN.fullmatch(entry))}
        if named is not None:
            yield Component("maven", named[1], named[2], group=groups.get(named[1], ""), path=path)
        for entry in entries:
            nested = _JAR.fullmatch(entry.rpartition("/")[2])
            if nested is not None:
                group = groups.get(nested[1], "")
                yield Component("maven", nested[1], nested[2], group=group, path=f"{path}!/{entry}")


_MAGIC: Final = b"\xff Go buildinf:"
_INLINE: Final = 2  # a flag: the values are beside the mark, as since Go 1.18
_SENTINEL: Final = 16  # bytes at both ends of the list of modules


def _go(sections: Mapping[str, list[str]]) -> Iterator[Component]:
    for line in sections.get("go", ()):
        path, _, data = line.partition("\t")
        try:
            yield from _modules(_clean(path), base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError):
            continue


def _modules(path: str, data: bytes) -> Iterator[Component]:
    """Yield the modules of a Go program (debug/buildinfo in Go's library describes the bytes)."""
    if not data.startswith(_MAGIC) or len(data) < 34 or not data[15] & _INLINE:
        return
    version, rest = _varint_text(data[32:])
    listed, _ = _varint_text(rest)
    number = re.match(rb"go([0-9][0-9A-Za-z.]*)", version)
    if number is not None:
        yield Component("golang", "stdlib", number[1].decode(), path=path)
    rows = [row.split("\t") for row in listed[_SENTINEL:].decode(errors="replace").splitlines()[:_MODULES]]
    for number_of_row, row in enumerate(rows):
        if len(row) < 3 or row[0] not in ("mod", "dep"):
            continue
        after = rows[number_of_row + 1] if number_of_row + 1 < len(rows) else []
        # Another module can be in its place. A directory of the builder in its place has no name that others know.
        is_replaced = len(after) >= 3 and after[0] == "=>" and not after[1].startswith((".", "/"))
        module = after if is_replaced else row
        version_text = "" if module[2] == "(devel)" else _clean(module[2])
        yield Component("golang", _clean(module[1]), version_text, path=path)


def _varint_text(data: bytes) -> tuple[bytes, bytes]:
    """Return a text behind its length, and what is behind it. A text that was cut is returned as far as it goes."""
    length = shift = 0
    for position, byte in enumerate(data[:5]):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return data[position + 1 : position + 1 + length], data[position + 1 + length :]
    raise ValueError("no length")


def _files(sections: Mapping[str, list[str]]) -> tuple[tuple[UnownedFile, ...], int]:
    digests = {}
    for line in sections.get("digests", ()):
        digest, _, path = line.partition("  ")
        if re.fullmatch(r"[0-9a-f]{64}", digest):
            digests[path] = digest
    found = {}
    for line in sections.get("files", ()):
        path, _, rest = line.partition("\t")
        size = rest.partition("\t")[0]
        if path.startswith("/") and path.isprintable() and size.isdecimal():
            found[path] = UnownedFile(path, int(size[:18]), digests.get(path, ""))
    total = next((int(line[:18]) for line in sections.get("count", ()) if line.strip().isdecimal()), len(found))
    return tuple(one for _, one in sorted(found.items())), max(0, total - len(found))


# --- the file of the catalog ------------------------------------------------------------------------------------------


def dumps(inventory: Inventory) -> str:
    """Return an inventory as JSON text. The same inventory has the same text."""
    form = asdict(inventory)
    form["components"] = [{k: v for k, v in one.items() if v or k == "version"} for one in form["components"]]
    return json.dumps({"schema": inventory.schema} | form, ensure_ascii=False, separators=(",", ":")) + "\n"


def loads(text: str, *, source: str = "inventory") -> Inventory:
    """Return the inventory in a text of :func:`dumps`. Raises CatalogError, with ``source``, for any other text."""
    made = forms.build(Inventory, forms.load(text, SCHEMA, source=source))
    if made is None:
        raise CatalogError(f"{source}: not an inventory of schema {SCHEMA}", hint="Restore the file from a backup.")
    return made
