"""Finds extensions by their entry points: operations, agents, checks and transports of other distributions.

An extension is a Python package that is installed in the same environment. Its ``pyproject.toml`` names what it adds::

    [project.entry-points."goldenami.transports"]
    bastion = "acme_goldenami.bastion:open_socket"

docs/extending.md explains the entry points of each group. An extension is imported only when it is needed. As in every
Python program, the user who installs packages decides which code runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from goldenami.errors import NotFound, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Group = Literal["goldenami.operations", "goldenami.agents", "goldenami.checks", "goldenami.transports"]
OPERATIONS: Final[Group] = "goldenami.operations"
AGENTS: Final[Group] = "goldenami.agents"
CHECKS: Final[Group] = "goldenami.checks"
TRANSPORTS: Final[Group] = "goldenami.transports"


def installed(group: Group) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name, sorted. Raises UsageError if two distributions have the same name."""
    return _group(tuple((path, _changed(path)) for path in sys.path), group)


@lru_cache(maxsize=8)
def _group(paths: tuple[tuple[str, int], ...], group: Group) -> Mapping[str, EntryPoint]:
    if group not in _named(paths):
        return {}
    found: dict[str, EntryPoint] = {}
    for entry in _all(paths).select(group=group):
        before = found.setdefault(entry.name, entry)
        if before != entry:
            raise UsageError(
                f"two packages add {entry.name!r} to {group}: {origin(before)} and {origin(entry)}",
                hint="Uninstall one of them.",
            )
    return dict(sorted(found.items()))


@lru_cache(maxsize=2)
def _all(paths: tuple[tuple[str, int], ...]) -> Any:  # the type has another name before Python 3.12
    """Return the entry points of all packages. Reading them takes as long as loading a recipe, so they are read again
    only after a change of the directories. ``paths``: those that Python searches, and when they were changed."""
    del paths
    from importlib.metadata import entry_points  # here, because it takes longer to load than all that most commands do

    return entry_points()


@lru_cache(maxsize=2)
def _named(paths: tuple[tuple[str, int], ...]) -> frozenset[Group]:
    """Return the groups that the entry points of any package may name. Nearly always there is none, and this search in
    the files takes a small part of the time of Python's own reading of entry points."""
    groups: frozenset[Group] = frozenset(get_args(Group))
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder is not PathFinder):
        return groups  # something else than directories can have packages
    found: set[Group] = set()
    for path, _ in paths:
        directory = path or "."
        if directory.rstrip("/").lower().endswith(".egg"):
            return groups
        try:
            with os.scandir(directory) as entries:
                names = [one.name for one in entries if one.name.lower().endswith((".dist-info", ".egg-info"))]
        except NotADirectoryError:  # a ZIP file, which Python reads, too
            return groups
        except OSError:  # it is not there, or cannot be read: Python ignores it
            continue
        for name in names:
            with suppress(OSError):  # most packages have no entry points
                text = Path(directory, name, "entry_points.txt").read_bytes()
                found |= {group for group in groups if group.encode() in text}
    return frozenset(found)


def _changed(path: str) -> int:
    try:
        return Path(path or ".").stat().st_mtime_ns
    except OSError:
        return 0


def load(group: Group, name: str) -> Any:
    """Import the object behind an entry point. Raises NotFound for an unknown name, UsageError if the import fails."""
    entries = installed(group)
    if name not in entries:
        raise NotFound(
            f"no installed package adds {name!r} to {group}", hint=f"Installed: {', '.join(entries) or 'none'}."
        )
    entry = entries[name]
    try:
        return entry.load()
    except Exception as error:
        raise UsageError(
            f"{origin(entry)}: the entry point {name} = {entry.value!r} of {group} cannot be imported: "
            f"{type(error).__name__}: {error}",
            hint="Repair or uninstall the package.",
        ) from error


def origin(entry: EntryPoint) -> str:
    """Return the distribution of an entry point as text: "acme-goldenami 1.2"."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
