"""Looking up agents, profiles, files of controls and recipes by name: in the project first, then in what is shipped.

A project's own file wins over the shipped one of the same name. Which one was used is part of the answer, so that
``validate`` and ``plan`` can say it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from goldenami import extensions
from goldenami.errors import UsageError

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
    """Where a name was found. ``path``: the file that defines it. ``shipped``: it came with goldenami.

    ``hides``: whether a shipped one has the same name, and if so, whether its files are the same. ``package``: the
    installed package that it is of.
    """

    kind: Kind
    name: str
    path: Path
    shipped: bool
    hides: Hidden = ""
    package: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from, in a few words."""
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
        """As JSON values, for every command that tells where something was found."""
        return {
            "kind": self.kind,
            "name": self.name,
            "from": "package" if self.package else "shipped" if self.shipped else "project",
            "path": str(self.path),
            "shipped_one": self.hides or None,
        }


def describe(found: Sequence[Found]) -> list[str]:
    """Where things were found, for people: one line for each kind, the names of one origin together."""
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
    """The file below ``root`` that defines a name; None if there is none. An agent is a folder or a single file."""
    if "/" in name:
        return None
    folder = root / FOLDERS[kind]
    candidates = [folder / f"{name}.yaml"]
    if kind == "agent":
        candidates.insert(0, folder / name / AGENT_FILE)
    return next((path for path in candidates if path.is_file()), None)


def names(root: Path, kind: Kind) -> list[str]:
    """All names of a kind below ``root``, sorted."""
    folder = root / FOLDERS[kind]
    found = {path.stem for path in folder.glob("*.yaml")}
    if kind == "agent":
        found |= {path.parent.name for path in folder.glob(f"*/{AGENT_FILE}")}
    return sorted(found)


def find(root: Path | None, shipped: Path, kind: Kind, name: str) -> Found | None:
    """The project's own definition if there is one, else the shipped one. ``root``: None where there is no project."""
    own = definition(root, kind, name) if root is not None else None
    theirs = definition(shipped, kind, name)
    if own is None:
        return Found(kind, name, theirs, True) if theirs is not None else None
    if theirs is None or own.samefile(theirs):  # a checkout of goldenami is a project, too
        return Found(kind, name, own, False)
    same = contents(own) == contents(theirs)
    return Found(kind, name, own, False, "same" if same else "different")


def installed_agents() -> dict[str, Found]:
    """The agents that installed packages add: the folders beside the module of each entry point.

    Raises UsageError for a module that cannot be found, and where two packages add an agent of one name.
    """
    found: dict[str, Found] = {}
    for name, entry in extensions.installed(extensions.AGENTS).items():
        spec = find_spec(entry.module)
        if spec is None or spec.origin is None:
            message = f"{extensions.origin(entry)}: the entry point {name} = {entry.value!r} is not a module"
            raise UsageError(message, hint=f"{extensions.AGENTS} takes Python packages. Repair or uninstall this one.")
        for path in sorted(Path(spec.origin).parent.glob(f"*/{AGENT_FILE}")):
            one = Found("agent", path.parent.name, path, shipped=False, package=extensions.origin(entry))
            if one.name in found:
                raise UsageError(
                    f"two packages add the agent {one.name!r}: {found[one.name].package} and {one.package}",
                    hint="Uninstall one of them.",
                )
            found[one.name] = one
    return found


def files(path: Path) -> Iterator[Path]:
    """The files of a definition: the whole folder of an agent that has one, else the file alone."""
    if path.name != AGENT_FILE:
        yield path
        return
    for item in sorted(path.parent.rglob("*")):
        if item.is_file() and not _CACHES & set(item.relative_to(path.parent).parts):
            yield item


def contents(path: Path) -> dict[str, bytes]:
    """The contents of a definition's files, by their path below it."""
    top = path.parent
    return {file.relative_to(top).as_posix(): file.read_bytes() for file in files(path)}
