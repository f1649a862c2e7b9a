"""A project: the directory of goldenami.yaml, with its recipes, agents and hardening.

This module finds, names and reads the files. Definitions that the project does not have are taken from installed
packages and from the shipped files.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from goldenami import shipped
from goldenami.errors import InvalidInput, NotFound, Problem, UsageError
from goldenami.nextstep import command
from goldenami.reading import Files
from goldenami.recipe import lookup
from goldenami.recipe.consent import EVERYTHING, NOTHING, Consent
from goldenami.recipe.lookup import Found, Kind
from goldenami.recipe.similar import nearest

if TYPE_CHECKING:  # they load pydantic and the parser of YAML, which many commands do not need
    from goldenami.recipe.document import Document
    from goldenami.recipe.keptdocuments import KeptDocuments
    from goldenami.recipe.problems import Problems

FILE = "goldenami.yaml"
ALLOW_OUTSIDE = "allow_outside"
PARSED = "parsed before"  # in ``Project.kept``: see ``keptdocuments``
_SMALL = 64 << 10  # bytes of a file that is kept
T = TypeVar("T")


def parsed_here() -> str:
    """Return the name in ``Project.kept`` of the documents that were parsed before, for what this thread reads. Another
    one may read files of the same project, and begin or end in between."""
    return f"{PARSED} {threading.get_ident()}"


_ALLOW = f"Copy the file into the project, or add its folder to {ALLOW_OUTSIDE} in {FILE}."


class Settings(NamedTuple):
    """What goldenami.yaml says outside of the environments, as it is written: the name of the default environment, and
    the folders of ``allow_outside``."""

    environment: str | None
    allow_outside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """The files of a project. ``root`` is absolute. Documents are read once and kept for the life of the object.

    ``shipped``: the directory of the shipped files. ``exists``: False if there are only the shipped files, without a
    project. ``consent``: which Python code of the project may be executed. ``kept``: a cache for other modules.
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
        """Return the same project, with the consent to execute its Python code."""
        return replace(self, consent=EVERYTHING, kept={})

    @property
    def hardening(self) -> Path:
        """The directory of hardening profiles and controls; it may not exist."""
        return self.root / "hardening"

    @property
    def files(self) -> Files:
        """The reader of all files of the project: in its folder, shipped, of installed agents, or in a folder of
        ``allow_outside``."""
        if "files" not in self.kept:
            self.kept["files"] = Files([*self._folders, *self._installed_folders(), *self._allowed()], _ALLOW)
        files: Files = self.kept["files"]
        return files

    @property
    def _folders(self) -> list[Path]:
        return [*([self.root] if self.exists else []), *(self.shipped / name for name in ("recipes", "hardening"))]

    def _allowed(self) -> list[Path]:
        return [self.root / Path(name).expanduser() for name in self.settings.allow_outside] if self.exists else []

    @property
    def settings(self) -> Settings:
        """What goldenami.yaml says outside of the environments. The check of the file reports the problems of it."""
        if "settings" not in self.kept:
            from goldenami.recipe.problems import Problems

            document = self.document(self.file, Problems())
            written = document.value if document is not None else {}
            name, folders = written.get("environment"), written.get(ALLOW_OUTSIDE)
            self.keep_settings(
                Settings(
                    name if isinstance(name, str) else None,
                    tuple(one for one in folders if isinstance(one, str)) if isinstance(folders, list) else (),
                )
            )
        settings: Settings = self.kept["settings"]
        return settings

    def keep_settings(self, settings: Settings) -> None:
        """Keep what is known of goldenami.yaml, so that it is not parsed for it."""
        self.kept["settings"] = settings

    def read_settings_file(self) -> bytes:
        """Return the content of goldenami.yaml. Raises OSError."""
        files = self._own_files
        return files.read_bytes(self.file)

    @property
    def _own_files(self) -> Files:
        """The reader of goldenami.yaml: it decides which folders are allowed, so it must be in the project itself."""
        return Files(self._folders, "Copy the file.")

    def _installed_folders(self) -> list[Path]:
        try:
            return [found.path.parent for found in self._installed("agent").values()]
        except UsageError:  # reported where an agent is looked up
            return []

    def shown(self, path: Path) -> str:
        """Return a file's name for messages: see the function ``shown``."""
        return shown(path)

    def document(self, path: Path, problems: Problems) -> Document | None:
        """Return the parsed file, or None if it cannot be parsed. Its problems are added to ``problems``."""
        if (known := self._read.get(path)) is None:
            from goldenami.recipe.document import parse_leniently, read_text

            name = shown(path)
            try:
                files = self._own_files if path == self.file else self.files
                text = read_text(files, path, name)
                kept: KeptDocuments | None = self.kept.get(parsed_here())
                if kept is not None and (before := kept.get(text, path, name)) is not None:
                    known = before, []
                else:
                    known = parse_leniently(text, path, name)
                    if kept is not None and not known[1]:
                        kept.add(known[0])
                self._read[path] = known
            except InvalidInput as error:
                known = self._read[path] = (None, list(error.problems))
        document_or_none, mistakes = known
        if mistakes:
            problems.extend(mistakes)
        return document_or_none

    def of_file(self, what: str, path: Path, read: Callable[[Path], T]) -> T:
        """Return what ``read`` makes of a file, or what it made of it before if the file is the same.

        ``what``: the name of the result. Raises what ``read`` raises.
        """
        known: dict[tuple[str, Path], tuple[tuple[int, ...], T]] = self.kept.setdefault("files by content", {})
        same = state_of(path)
        if (what, path) in known and known[what, path][0] == same:
            return known[what, path][1]
        made = read(path)
        if same is not None and same[0] <= _SMALL:
            known[what, path] = same, made
        return made

    def recipe_names(self) -> list[str]:
        """Return the names of all recipes: the YAML files directly in the recipes directory. They are read once."""
        return list(self._recipe_names())

    def has_recipe(self, name: str) -> bool:
        """Return whether there is a recipe of a name."""
        return name in self._recipe_names()

    def _recipe_names(self) -> Mapping[str, None]:
        if "recipes" not in self.kept:
            self.kept["recipes"] = dict.fromkeys(_stems(self.recipes))
        found: Mapping[str, None] = self.kept["recipes"]
        return found

    def agent_names(self) -> list[str]:
        """Return the names of all agents: the project's own, installed and shipped ones."""
        return self.names("agent")

    def names(self, kind: Kind) -> list[str]:
        """Return all names that ``find`` finds, sorted: the project's own, installed and shipped ones."""
        return sorted({*self.own_names(kind), *self._installed(kind), *lookup.names(self.shipped, kind)})

    def own_names(self, kind: Kind) -> list[str]:
        """Return the names of a kind in the project itself, sorted."""
        return lookup.names(self.root, kind) if self.exists else []

    def find(self, kind: Kind, name: str) -> Found | None:
        """Find a definition by name: the project's own, else of an installed package, else shipped, else None.

        It is looked up once.
        """
        known: dict[tuple[Kind, str], Found | None] = self.kept.setdefault("found", {})
        if (kind, name) not in known:
            found = lookup.find(self.root if self.exists else None, self.shipped, kind, name, self.files)
            known[kind, name] = self._installed(kind).get(name, found) if found is None or found.shipped else found
        return known[kind, name]

    def _installed(self, kind: Kind) -> Mapping[str, Found]:
        """Return the definitions of installed packages by name. They are read once."""
        if kind != "agent":
            return {}
        if kind not in self.kept:
            self.kept[kind] = lookup.installed_agents()
        agents: Mapping[str, Found] = self.kept[kind]
        return agents

    def known(self, kind: Kind) -> str:
        """Return the names that ``find`` finds as the text of a hint, grouped by origin."""
        own = self.own_names(kind)
        others = [name for name in lookup.names(self.shipped, kind) if name not in own]
        words = f"In {self.shown(self.root / lookup.FOLDERS[kind])}: {', '.join(own) or 'none'}."
        if self._installed(kind):
            words += f" Installed: {', '.join(self._installed(kind))}."
        return f"{words} Shipped: {', '.join(others)}." if others else words

    def recipe_file(self, name: str) -> Path:
        """Return the path that the recipe of a name has. The file need not exist."""
        known: dict[str, Path] = self.kept.setdefault("recipe files", {})
        if name not in known:
            known[name] = self.recipes / f"{name}.yaml"
        return known[name]

    def recipe_path(self, ref: str) -> Path:
        """The file of a recipe given by path (with a slash or .yaml) or by name. Raises NotFound
        with a hint. A file that was found is not looked up again."""
        known: dict[str, Path] = self.kept.setdefault("recipe paths", {})
        if ref in known:
            return known[ref]
        path = self._recipe_path(ref)
        if path.name == f"{ref}.yaml" or ref.startswith("/"):  # other references depend on the working directory
            known[ref] = path
        return path

    def _recipe_path(self, ref: str) -> Path:
        if "/" in ref or ref.endswith((".yaml", ".yml")):
            path = Path(ref).absolute()
            if not _may_be_file(path):
                raise NotFound(f"there is no recipe {ref}", hint=self.recipe_hint(Path(ref).stem))
            return path
        path = self.recipe_file(ref)
        if not _may_be_file(path):
            raise NotFound(f"there is no recipe {ref!r} in {shown(self.recipes)}", hint=self.recipe_hint(ref))
        return path

    def recipe_hint(self, name: str, known: list[str] | None = None) -> str:
        """Return the hint for a recipe that the project does not have.

        Shipped recipes are not used directly, because a project has the files of every image that it releases.
        """
        if lookup.definition(self.shipped, "recipe", name) is not None:
            return f"A recipe of this name is shipped. Copy it into the project: {command('recipes copy', name)}"
        known = self.recipe_names() if known is None else known
        near = nearest(name, known)
        if near:
            return f"Did you mean {near}?"
        near = nearest(name, lookup.names(self.shipped, "recipe"))
        if near:
            return f"Did you mean {near}? It is shipped. Copy it into the project: {command('recipes copy', near)}"
        return f"Recipes here: {', '.join(known)}." if known else f"Create a project with a recipe: {command('init')}"


def state_of(path: Path) -> tuple[int, ...] | None:
    """Return the size of a file, and what differs after each change of it; None if there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev, status.st_mode


def shown(path: Path) -> str:
    """Return a path for messages.

    It is relative to the working directory if it is not more than two directories above, else as given. A shipped file
    has a short name that does not depend on the installation.
    """
    if (short := shipped.name_of(path)) is not None:
        return short
    relative = os.path.relpath(path)
    return relative if not relative.startswith("../../..") else str(path)


def find(start: Path) -> Path:
    """Return goldenami.yaml in ``start`` or the nearest directory above it. Raises NotFound."""
    start = start.absolute()
    for directory in (start, *start.parents):
        if (directory / FILE).is_file():
            return directory / FILE
    raise NotFound(
        f"no {FILE} in {start} or above it",
        hint=f"Create a project: {command('init')}. To work in another directory, begin with -C DIRECTORY. "
        "With --catalog or --parameter, `resolve` needs no project.",
    )


def load_project(start: Path, consent: Consent | None = None) -> Project:
    """Find the project that has ``start`` in its directory. Its files are not read yet. Raises NotFound.

    ``consent``: which Python code of the project may be executed; by default the consent of
    GOLDENAMI_ALLOW_PROJECT_CODE.
    """
    return _project(find(start).parent, Consent.from_variables() if consent is None else consent)


def load_project_or_shipped(start: Path) -> Project:
    """Return the project that has ``start`` in its directory. If there is none, return one with only the shipped files,
    whose ``exists`` is False."""
    try:
        return load_project(start)
    except NotFound:
        return _project(shipped.ROOT, NOTHING, exists=False)


def _project(root: Path, consent: Consent, *, exists: bool = True) -> Project:
    recipes = root / "recipes"
    return Project(root, root / FILE, recipes, recipes / "agents", exists=exists, consent=consent)


def graph(project: Project) -> Mapping[str, str | None]:
    """Return the base recipe of each recipe that can be read; None if the base is not a recipe. It is read once."""
    if "graph" in project.kept:
        known: Mapping[str, str | None] = project.kept["graph"]
        return known
    from goldenami.recipe.keptdocuments import read_all
    from goldenami.recipe.problems import Problems

    edges: dict[str, str | None] = {}
    read_all(project, project.recipe_names())
    for name in project.recipe_names():
        document = project.document(project.recipe_file(name), Problems())
        base = document.value.get("base") if document else None
        parent = base.get("recipe") if isinstance(base, dict) else None
        edges[name] = parent if isinstance(parent, str) else None
    project.kept["graph"] = edges
    return edges


def cycle(edges: Mapping[str, str | None], start: str) -> list[str] | None:
    """Return the cycle of base recipes that ``start`` leads to, its first name repeated at the end, or None."""
    walked: list[str] = []
    current: str | None = start
    while current is not None:
        if current in walked:
            return [*walked[walked.index(current) :], current]
        walked.append(current)
        current = edges.get(current)
    return None


def _may_be_file(path: Path) -> bool:
    """Return whether the path exists and is no directory. Reading it reports a broken link, a FIFO or a device."""
    return os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112 - as above, in projects with many recipes


def _stems(directory: Path) -> list[str]:
    try:
        names = os.listdir(directory)  # noqa: PTH208 - of names only, in projects with many recipes
    except OSError:  # it does not exist, or cannot be read
        return []
    return sorted(os.path.splitext(name)[0] for name in names if name.endswith(".yaml"))  # noqa: PTH122
