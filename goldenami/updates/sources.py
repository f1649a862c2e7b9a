"""Where the package manager of an image takes packages from, as ``PackageManager.sources`` prints it on the host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from goldenami.model import PackageSources
from goldenami.updates import apt, dnf

_READERS: Final[Mapping[str, Callable[[Mapping[str, str]], PackageSources]]] = {
    "apt": apt.read_sources,
    "dnf": dnf.read_sources,
}


def read(text: str) -> PackageSources | None:
    """Return the sources of a host. ``text``: the name of its package manager, and its files: a line ``=PATH`` for each
    file, and the lines of the file with a space before each.

    Returns None for a text that cannot be read, or of another package manager: then updates of the image are unknown.
    """
    files: dict[str, list[str]] = {}
    manager, _, rest = text.partition("\n")
    current: list[str] = []
    for line in rest.splitlines():
        if line.startswith("="):
            current = files.setdefault(line[1:], [])
        elif line.startswith(" "):
            current.append(line[1:])
    reader = _READERS.get(manager)
    try:
        return reader({path: "\n".join(lines) for path, lines in files.items()}) if reader is not None else None
    except (KeyError, TypeError, ValueError, json.JSONDecodeError):
        return None


def latest(sources: PackageSources) -> PackageSources:
    """Return the sources with the release "latest". An image records those of the release that it was built with.

    https://docs.aws.amazon.com/linux/al2023/ug/deterministic-upgrades-usage.html
    """

    def moved(url: str) -> str:
        return re.sub(r"/20\d\d\.\d+\.\d{8}(?=/|$)", "/latest", url)

    repositories = (
        replace(one, uris=tuple(map(moved, one.uris)), mirrors=moved(one.mirrors)) for one in sources.repositories
    )
    return replace(sources, repositories=tuple(repositories))
