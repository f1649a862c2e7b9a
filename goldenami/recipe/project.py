"""A project: the directory of goldenami.yaml, with its recipes, agents and hardening.

Files are found, named and read here; what the project does not have itself is looked up among the shipped files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from goldenami import shipped
from goldenami.errors import InvalidInput, NotFound, Problem
from goldenami.recipe import lookup
from goldenami.recipe.code import EVERYTHING, NOTHING, Consent
from goldenami.recipe.document import Document, parse_leniently, read_text
from goldenami.recipe.lookup import Found, Kind
from goldenami.recipe.problems import Problems
from goldenami.recipe.rendering import nearest

FILE = "goldenami.yaml"


@dataclass(frozen=True, slots=True)
class Project:
    """Where things are. ``root`` is absolute. Documents are read once and kept for the life of the object.

    ``shipped``: the directory of what comes with goldenami. ``exists``: False for what is shipped alone, without a
    project around it. ``consent``: which Python code of the project may be executed. ``kept``: what is read once, for
    the modules that read it.
    """

    root: Path
    file: Path
    recipes: Path
    agents: Path
    shipped: Path = shipped.ROOT
    exists: bool = True
    consent: Consent = NOTHING
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _read: dict[Path, tuple[Document | None, list[Problem]]] = field(default_factory=dict, repr=False, compare=False)

    def trusted(self) -> Project:
        """The same project, with the consent to execute its Python code."""
        return replace(self, consent=EVERYTHING, kept={})

    @property
    def hardening(self) -> Path:
        """The directory of hardening profiles and controls; it may not be there."""
        return self.root / "hardening"

    def shown(self, path: Path) -> str:
        """A file's name for people: relative to the working directory if it is inside it, else as it is."""
        return shown(path)

    def document(self, path: Path, problems: Problems) -> Document | None:
        """The parsed file, or None if it cannot be parsed at all; its mistakes of form go to ``problems``."""
        if path not in self._read:
            name = shown(path)
            try:
                document, mistakes = parse_leniently(read_text(path, name), path, name)
                self._read[path] = (document, mistakes)
            except InvalidInput as error:
                self._read[path] = (None, list(error.problems))
        document_or_none, mistakes = self._read[path]
        problems.extend(mistakes)
        return document_or_none

    def recipe_names(self) -> list[str]:
        """Names of all recipes: the YAML files directly in the recipes directory."""
        return _stems(self.recipes)

    def agent_names(self) -> list[str]:
        """Names of all agents: the project's own and the shipped ones."""
        return self.names("agent")

    def names(self, kind: Kind) -> list[str]:
        """All names that ``find`` knows: the project's own and the shipped ones, sorted."""
        return sorted({*self.own_names(kind), *self._installed(kind), *lookup.names(self.shipped, kind)})

    def own_names(self, kind: Kind) -> list[str]:
        """The names of a kind in the project itself, sorted."""
        return lookup.names(self.root, kind) if self.exists else []

    def find(self, kind: Kind, name: str) -> Found | None:
        """The project's own one of this name, else that of an installed package, else the shipped one, else None."""
        found = lookup.find(self.root if self.exists else None, self.shipped, kind, name)
        return self._installed(kind).get(name, found) if found is None or found.shipped else found

    def _installed(self, kind: Kind) -> Mapping[str, Found]:
        """What installed packages add. They are asked once."""
        if kind != "agent":
            return {}
        if kind not in self.kept:
            self.kept[kind] = lookup.installed_agents()
        agents: Mapping[str, Found] = self.kept[kind]
        return agents

    def known(self, kind: Kind) -> str:
        """The names that ``find`` knows as a sentence for a hint: the project's own apart from the shipped ones."""
        own = self.own_names(kind)
        others = [name for name in lookup.names(self.shipped, kind) if name not in own]
        words = f"In {self.shown(self.root / lookup.FOLDERS[kind])}: {', '.join(own) or 'none'}."
        if self._installed(kind):
            words += f" Installed: {', '.join(self._installed(kind))}."
        return f"{words} Shipped: {', '.join(others)}." if others else words

    def recipe_path(self, ref: str) -> Path:
        """The file of a recipe given by path (with a slash or .yaml) or by name. Raises NotFound, with what is near."""
        if "/" in ref or ref.endswith((".yaml", ".yml")):
            path = Path(ref).absolute()
            if not path.is_file():
                raise NotFound(f"there is no recipe {ref}", hint=self.recipe_hint(Path(ref).stem))
            return path
        path = self.recipes / f"{ref}.yaml"
        if not path.is_file():
            raise NotFound(f"there is no recipe {ref!r} in {shown(self.recipes)}", hint=self.recipe_hint(ref))
        return path

    def recipe_hint(self, name: str, known: list[str] | None = None) -> str:
        """What to do about a recipe that the project does not have. Recipes are not looked up among the shipped ones:
        a project has every image that it releases in its own files."""
        if lookup.definition(self.shipped, "recipe", name) is not None:
            return f"A recipe of this name is shipped. Copy it into the project: goldenami recipes copy {name}"
        known = self.recipe_names() if known is None else known
        near = nearest(name, known)
        if near:
            return f"Did you mean {near}?"
        near = nearest(name, lookup.names(self.shipped, "recipe"))
        if near:
            return f"Did you mean {near}? It is shipped. Copy it into the project: goldenami recipes copy {near}"
        return f"Recipes here: {', '.join(known)}." if known else "Start one with: goldenami init"


def shown(path: Path) -> str:
    """A path for people: relative to the working directory where that is shorter to read. A shipped file has its short
    name, wherever it is installed."""
    if (short := shipped.name_of(path)) is not None:
        return short
    relative = os.path.relpath(path)
    return relative if not relative.startswith("../../..") else str(path)


def find(start: Path) -> Path:
    """goldenami.yaml in ``start`` or the nearest directory above it. Raises NotFound."""
    start = start.absolute()
    for directory in (start, *start.parents):
        if (directory / FILE).is_file():
            return directory / FILE
    raise NotFound(f"no {FILE} in {start} or above it", hint="Start a project with: goldenami init")


def load_project(start: Path, consent: Consent | None = None) -> Project:
    """Find the project around ``start``. Reads nothing yet but whether files exist. Raises NotFound.

    ``consent``: which Python code of it may be executed; by default what GOLDENAMI_ALLOW_PROJECT_CODE says.
    """
    return _project(find(start).parent, Consent.from_variables() if consent is None else consent)


def load_project_or_shipped(start: Path) -> Project:
    """The project around ``start``; where there is none, what is shipped: its ``exists`` is False."""
    try:
        return load_project(start)
    except NotFound:
        return _project(shipped.ROOT, NOTHING, exists=False)


def _project(root: Path, consent: Consent, *, exists: bool = True) -> Project:
    recipes = root / "recipes"
    return Project(root, root / FILE, recipes, recipes / "agents", exists=exists, consent=consent)


def graph(project: Project) -> Mapping[str, str | None]:
    """Each recipe's base recipe, as far as the files can be read; None where the base is no recipe."""
    edges: dict[str, str | None] = {}
    for name in project.recipe_names():
        document = project.document(project.recipes / f"{name}.yaml", Problems())
        base = document.value.get("base") if document else None
        parent = base.get("recipe") if isinstance(base, dict) else None
        edges[name] = parent if isinstance(parent, str) else None
    return edges


def cycle(edges: Mapping[str, str | None], start: str) -> list[str] | None:
    """The cycle that following bases from ``start`` runs into, first name repeated at the end; None if it ends."""
    walked: list[str] = []
    current: str | None = start
    while current is not None:
        if current in walked:
            return [*walked[walked.index(current) :], current]
        walked.append(current)
        current = edges.get(current)
    return None


def _stems(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.glob("*.yaml")) if directory.is_dir() else []
