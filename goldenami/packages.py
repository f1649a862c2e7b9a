"""Reads the entry points of installed packages from their files.

``importlib.metadata`` does the same, but to load it takes as long as everything else that a short command does, and
nearly always there is nothing to find. It is used only where packages are not in directories.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_GROUP = re.compile(rb"^\s*\[goldenami\.", re.MULTILINE)
_VALUE = re.compile(r"(?P<module>[\w.]+)\s*(:\s*(?P<attributes>[\w.]+)\s*)?(\[.*\]\s*)?")


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """An object that a package adds. ``value``: "module" or "module:object". ``origin``: the package as text:
    "acme-goldenami 1.2"."""

    name: str
    value: str
    group: str
    origin: str = field(default="", compare=False)

    @property
    def module(self) -> str:
        """The module of the object."""
        return self.value.partition("[")[0].partition(":")[0].strip()

    def load(self) -> Any:
        """Import the object. Raises what the import raises, and ValueError for a value that names no object."""
        match = _VALUE.fullmatch(self.value)
        if match is None:
            raise ValueError(f"{self.value!r} is not module:object")
        found: Any = import_module(match["module"])
        for name in (match["attributes"] or "").split("."):
            found = getattr(found, name) if name else found
        return found


def entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group of goldenami, in the order in which Python finds their packages."""
    return [one for one in _every(tuple((path, _changed(path)) for path in sys.path)) if one.group == group]


@lru_cache(maxsize=2)
def _every(paths: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Return all entry points of goldenami. They are read again only after a change of the directories. ``paths``:
    those that Python searches, and when they were changed."""
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder is not PathFinder):
        return _by_library()  # something else than directories can have packages
    found: list[EntryPoint] = []
    packages: set[str] = set()  # of two with the same name, Python uses the first
    for path, _ in paths:
        directory = path or "."
        if directory.rstrip("/").lower().endswith(".egg"):
            return _by_library()
        try:
            with os.scandir(directory) as entries:
                names = [one.name for one in entries if one.name.lower().endswith((".dist-info", ".egg-info"))]
        except NotADirectoryError:  # a ZIP file, which Python reads, too
            return _by_library()
        except OSError:  # it is not there, or cannot be read: Python ignores it
            continue
        for name in names:
            package = re.sub(r"[-_.]+", "-", name.rpartition(".")[0].partition("-")[0]).lower()
            with suppress(OSError):  # most packages have no entry points
                text = Path(directory, name, "entry_points.txt").read_bytes()
                if _GROUP.search(text) and package not in packages:
                    found += _parsed(text.decode(), _origin(Path(directory, name)))
            packages.add(package)
    return tuple(found)


def _parsed(text: str, origin: str) -> Iterator[EntryPoint]:
    group = ""
    for line in map(str.strip, text.splitlines()):
        name, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
        elif equals and not line.startswith("#") and group.startswith("goldenami."):
            yield EntryPoint(name.strip(), value.strip(), group, origin)


def _origin(folder: Path) -> str:
    """Return name and version of a package, from its metadata or from the name of the folder."""
    name, _, version = folder.name.rpartition(".")[0].partition("-")
    for file in ("METADATA", "PKG-INFO"):
        with suppress(OSError):
            head = (folder / file).read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
            written = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
            name, version = written.get("Name", name), written.get("Version", version)
    return f"{name} {version}".strip()


def _by_library() -> tuple[EntryPoint, ...]:
    from importlib.metadata import distributions

    packages: set[str] = set()
    found: list[EntryPoint] = []
    for package in distributions():
        if package.name in packages:
            continue
        packages.add(package.name)
        origin = f"{package.name} {package.version}"
        found += [
            EntryPoint(one.name, one.value, one.group, origin)
            for one in package.entry_points
            if one.group.startswith("goldenami.")
        ]
    return tuple(found)


def _changed(path: str) -> int:
    try:
        return Path(path or ".").stat().st_mtime_ns
    except OSError:
        return 0
