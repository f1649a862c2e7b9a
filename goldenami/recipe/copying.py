"""Copies shipped agents, profiles and recipes into a project, with the files that they need.

``Project.find`` finds the copy first, so the project uses it from then on. Without ``force``, no file is overwritten,
and nothing is written if one of the files exists with other contents.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from goldenami.errors import NotFound, UsageError
from goldenami.nextstep import command
from goldenami.reading import describe, hint_of
from goldenami.recipe import lookup
from goldenami.recipe.lookup import Kind
from goldenami.recipe.problems import Problems
from goldenami.recipe.project import Project, shown
from goldenami.recipe.similar import suggestion
from goldenami.shipped import ROOT

Outcome = Literal["written", "replaced", "unchanged", "kept"]

_LABELS: Mapping[Kind, str] = {
    "agent": "agent",
    "profile": "profile",
    "controls": "file of controls",
    "recipe": "recipe",
}
_LIST: Mapping[Kind, str] = {
    "agent": command("agents list"),
    "profile": command("harden list"),
    "controls": command("harden list"),
    "recipe": command("recipes list"),
}


@dataclass(frozen=True, slots=True)
class Copied:
    """One file of a copy. ``kept``: the project has another version of the file, which was not changed."""

    path: Path
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _File:
    """A shipped file, by its path below the shipped directory. ``needed``: another copied file needs it, and the
    project's own version of it is sufficient."""

    path: Path
    needed: bool = False


def copy_agent(project: Project, name: str, *, force: bool = False) -> list[Copied]:
    """Copy an agent's folder. Raises NotFound for an unknown name, UsageError if the project has other files there."""
    source = _shipped(project, "agent", name)
    single = project.root / lookup.FOLDERS["agent"] / f"{name}.yaml"
    if single.is_file() and not single.samefile(source):
        raise UsageError(
            f"the project has the agent {name} in {shown(single)}", hint="Remove or rename that file, then copy again."
        )
    return _copy(project, [_File(_below(project, file)) for file in lookup.members(source)], force)


def copy_profile(project: Project, name: str, *, force: bool = False) -> list[Copied]:
    """Copy a profile, the profiles that it extends, and their files of controls.

    Files that the profile needs and the project already has are kept. Raises as ``copy_agent``.
    """
    return _copy(project, _profile(project, name), force)


def copy_recipe(project: Project, name: str, *, force: bool = False) -> list[Copied]:
    """Copy a recipe, its files and tests, and its base recipes that the project does not have.

    Files that the recipe needs and the project already has are kept. Raises as ``copy_agent``.
    """
    return _copy(project, _recipe(project, name), force)


def require_shipped(kind: Kind, name: str, root: Path = ROOT) -> Path:
    """Return the file of a shipped definition. Raises NotFound, with the nearest name as a hint."""
    path = lookup.definition(root, kind, name)
    if path is None:
        hint = suggestion(name, lookup.names(root, kind), f"`{_LIST[kind]}` prints the names.")
        raise NotFound(f"there is no shipped {_LABELS[kind]} {name!r}", hint=hint)
    return path


def _shipped(project: Project, kind: Kind, name: str) -> Path:
    return require_shipped(kind, name, project.shipped)


def _below(project: Project, path: Path) -> Path:
    return path.relative_to(project.shipped)


def _value(project: Project, path: Path) -> Mapping[str, Any]:
    document = project.document(path, Problems())
    return document.value if document is not None else {}


def _profile(project: Project, name: str, *, needed: bool = False) -> Iterator[_File]:
    path = _shipped(project, "profile", name)
    yield _File(_below(project, path), needed)
    value = _value(project, path)
    for file in value.get("files", ()):
        yield _File(_below(project, _shipped(project, "controls", file)), True)
    if "extends" in value:
        yield from _profile(project, value["extends"], needed=True)


def _recipe(project: Project, name: str, *, needed: bool = False) -> Iterator[_File]:
    path = _shipped(project, "recipe", name)
    yield _File(_below(project, path), needed)
    value = _value(project, path)
    for text in _texts(value):
        # Paths in a recipe are relative to the recipe. A text that names an existing file there is taken as a path.
        file = path.parent / text
        if "\n" not in text and len(text) < 256 and file.is_file() and file.resolve().is_relative_to(path.parent):
            yield _File(_below(project, file), True)
    parent = value.get("base", {}).get("recipe")
    if parent is not None and lookup.definition(project.root, "recipe", parent) is None:
        yield from _recipe(project, parent, needed=True)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _copy(project: Project, wanted: Iterator[_File] | list[_File], force: bool) -> list[Copied]:
    if project.root.samefile(project.shipped):
        raise UsageError(f"{shown(project.root)} is the directory of the shipped files", hint="Change the files there.")
    files: dict[Path, _File] = {}
    for file in wanted:
        files.setdefault(file.path, file)
    outcomes = {path: _outcome(project, file, force) for path, file in files.items()}
    blocked = [shown(project.root / path) for path, outcome in outcomes.items() if outcome is None]
    if blocked:
        hint = "To replace them with the shipped files, use --force."
        raise UsageError(
            f"nothing was copied: the project has these files with other contents: {', '.join(blocked)}", hint=hint
        )
    done = []
    for path, outcome in outcomes.items():
        target = project.root / path
        if outcome in ("written", "replaced"):
            _write(_contents(project, project.shipped / path), project.shipped / path, target, new=outcome == "written")
        assert outcome is not None
        done.append(Copied(target, outcome))
    return done


def _outcome(project: Project, file: _File, force: bool) -> Outcome | None:
    """Return what to do with a file; None if the project's file must not be overwritten."""
    target = project.root / file.path
    if not target.exists():
        return "written"
    if target.is_file() and _contents(project, target) == _contents(project, project.shipped / file.path):
        return "unchanged"
    if force and target.is_file():
        return "replaced"
    return "kept" if file.needed else None


def _contents(project: Project, path: Path) -> bytes:
    try:
        return project.files.read_bytes(path)
    except OSError as error:
        raise UsageError(describe(error, shown(path)), hint=hint_of(error)) from None


def _write(contents: bytes, source: Path, target: Path, *, new: bool) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Mode "x" fails for a file that was created after the check, and does not overwrite it.
        with target.open("xb" if new else "wb") as stream:
            stream.write(contents)
        shutil.copymode(source, target)  # an operation without a mode uses the mode of the file
    except OSError as error:
        raise UsageError(f"cannot write {shown(target)}: {error.strerror}") from None
