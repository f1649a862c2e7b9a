"""Finds agents, profiles, files of controls and recipes by name, first in the project, then among the shipped files.

A project's own file is used instead of a shipped one of the same name. The result has the origin of the file, which
``validate`` and ``plan`` print.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from goldenami import extensions
from goldenami.errors import UsageError
from goldenami.reading import Files

Kind = Literal["agent", "profile", "controls", "recipe"]
Hidden = Literal["", "same", "different"]

FOLDERS: dict[Kind, str] = {
    "agent": "recipes/agents",
    "profile": "hardening/profiles",
    "controls": "hardening/controls",
    "recipe": "recipes",
}
AGENT_FILE = "agent.yaml"

_CACHES = {"__pycache__", ".pytest_cache"}


@dataclass(frozen=True, slots=True)
class Found:
    """Where a name was found. ``path``: the file that defines it. ``shipped``: it is one of goldenami's own files.

    ``hides``: "same" or "different" if there is a shipped one of the same name with the same or with different files,
    else "". ``package``: the installed package that has it, else "".
    """

    kind: Kind
    name: str
    path: Path
    shipped: bool
    hides: Hidden = ""
    package: str = ""

    @property
    def origin(self) -> str:
        """The origin as a short text."""
        if self.package:
            return f"package {self.package}"
        if self.shipped:
            return "shipped"
        return {
            "": "project",
            "same": "project, same as the shipped one",
            "different": "project, differs from the shipped one",
        }[self.hides]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for commands that print where something was found."""
        return {
            "kind": self.kind,
            "name": self.name,
            "from": "package" if self.package else "shipped" if self.shipped else "project",
            "path": str(self.path),
            "shipped_one": self.hides or None,
        }


def describe(found: Sequence[Found]) -> list[str]:
    """Return the origins as text: one line per kind, with the names grouped by origin."""
    lines = []
    for kind, label in (("agent", "agents"), ("profile", "profiles"), ("controls", "controls")):
        by_origin: dict[str, list[str]] = {}
        for one in found:
            if one.kind == kind:
                by_origin.setdefault(one.origin, []).append(one.name)
        if by_origin:
            groups = (f"{', '.join(sorted(names))} ({origin})" for origin, names in sorted(by_origin.items()))
            lines.append(f"{label}: {'; '.join(groups)}")
    return lines


def definition(root: Path, kind: Kind, name: str) -> Path | None:
    """Return the file below ``root`` that defines a name, or None. An agent is a folder or a single file."""
    if "/" in name:
        return None
    folder = root / FOLDERS[kind]
    candidates = [folder / f"{name}.yaml"]
    if kind == "agent":
        candidates.insert(0, folder / name / AGENT_FILE)
    return next((path for path in candidates if is_file(path)), None)


def is_file(path: Path) -> bool:
    """Return whether a path is a file. Path.is_file raises an error for a name that is too long."""
    return os.path.isfile(path)  # noqa: PTH113


def names(root: Path, kind: Kind) -> list[str]:
    """Return all names of a kind below ``root``, sorted."""
    folder = root / FOLDERS[kind]
    found = {path.stem for path in folder.glob("*.yaml")}
    if kind == "agent":
        found |= {path.parent.name for path in folder.glob(f"*/{AGENT_FILE}")}
    return sorted(found)


def find(root: Path | None, shipped: Path, kind: Kind, name: str, files: Files) -> Found | None:
    """Return the project's own definition, else the shipped one, else None. ``root``: None if there is no project.
    ``files``: reads both, to compare them."""
    own = definition(root, kind, name) if root is not None else None
    theirs = definition(shipped, kind, name)
    if own is None:
        return Found(kind, name, theirs, True) if theirs is not None else None
    if theirs is None or own.samefile(theirs):  # a checkout of goldenami is also a project
        return Found(kind, name, own, False)
    return Found(kind, name, own, False, "same" if _same(own, theirs, files) else "different")


def installed_agents() -> dict[str, Found]:
    """Return the agents of installed packages by name: the folders next to the module of each entry point.

    Raises UsageError if a module cannot be found, or if two packages have an agent of the same name.
    """
    found: dict[str, Found] = {}
    for name, entry in extensions.installed(extensions.AGENTS).items():
        spec = find_spec(entry.module)
        if spec is None or spec.origin is None:
            message = f"{entry.origin}: the entry point {name} = {entry.value!r} is not a module"
            raise UsageError(message, hint=f"{extensions.AGENTS} needs modules. Repair or uninstall it.")
        for path in sorted(Path(spec.origin).parent.glob(f"*/{AGENT_FILE}")):
            one = Found("agent", path.parent.name, path, shipped=False, package=entry.origin)
            if one.name in found:
                raise UsageError(
                    f"two installed packages have an agent {one.name!r}: {found[one.name].package} and {one.package}",
                    hint="Uninstall one of them.",
                )
            found[one.name] = one
    return found


def members(path: Path) -> Iterator[Path]:
    """Yield the files of a definition: all files in the folder of an agent, else the single file."""
    if path.name != AGENT_FILE:
        yield path
        return
    for item in sorted(path.parent.rglob("*")):
        if item.is_file() and not _CACHES & set(item.relative_to(path.parent).parts):
            yield item


def _same(own: Path, theirs: Path, files: Files) -> bool:
    """Return whether two definitions have the same files. A file that cannot be read is reported when it is used."""
    try:
        files.check(own)  # before the files of its folder are listed
        first, second = ({file.relative_to(path.parent): file for file in members(path)} for path in (own, theirs))
        return first.keys() == second.keys() and all(
            files.read_bytes(first[name]) == files.read_bytes(second[name]) for name in second
        )
    except OSError:
        return False
