"""The words that a shell completes: names of the project, of its catalog and of its builds, as files of this machine.

Each function is the ``shell_complete`` of an argument or option. A shell asks at each press of a key, so nothing here
calls the cloud, starts a sandbox, or loads the modules of recipes and environments. A project that cannot be read, and
a catalog in a bucket, have no words; nothing is printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Final

import click

_FILE: Final = "goldenami.yaml"
_SANDBOX: Final = "sandbox"
_CHANNELS: Final = ("candidate", "stable")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BUILD: Final = re.compile(r"[0-9]{8}-[0-9]{6}-")

Words = Callable[[click.Context, click.Parameter, str], list[str]]


@dataclass(frozen=True)
class _Here:
    """The project of a command line that is not complete. ``root``: None outside a project."""

    root: Path | None
    chosen: str | None  # the environment of -e

    @classmethod
    def of(cls, ctx: click.Context) -> _Here:
        start = Path(ctx.find_root().params.get("directory") or ".").absolute()
        root = next((one for one in (start, *start.parents) if (one / _FILE).is_file()), None)
        return cls(root, ctx.params.get("environment_name"))

    @cached_property
    def config(self) -> dict[str, Any]:
        """goldenami.yaml as it is; empty if it cannot be parsed."""
        if self.root is None:
            return {}
        import yaml

        try:
            text = (self.root / _FILE).read_text(encoding="utf-8")
            found = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def environments(self) -> dict[str, Any]:
        return _mapping(self.config.get("environments"))

    @cached_property
    def environment(self) -> tuple[str, dict[str, Any]]:
        """The name and the settings of the environment that the command will use."""
        given = self.chosen or os.environ.get("GOLDENAMI_ENVIRONMENT") or self.config.get("environment") or _SANDBOX
        name = given if isinstance(given, str) else _SANDBOX
        if name not in self.environments and len(self.environments) == 1:
            name = str(*self.environments)
        return name, _mapping(self.environments.get(name))

    def folder(self, what: str) -> Path | None:
        """Return the directory of ``what`` ("catalog" or "builds"); None if it is in a bucket or unknown."""
        if self.root is None:
            return None
        name, settings = self.environment
        where, own = settings.get(what), self.root / ".goldenami" / name
        if isinstance(where, str) and where.startswith("s3://"):
            return own / what if what == "builds" else None  # reports of builds are on this machine even then
        if isinstance(where, str):
            return self.root / Path(where).expanduser()
        if settings.get("sandbox") is True:
            own = (self._sandbox or self.root / ".goldenami") / name
        return own / what

    @cached_property
    def _sandbox(self) -> Path | None:
        """The directory of a sandbox of this machine for its clients."""
        from goldenami import plugins

        return plugins.sandbox_directory(os.environ.get("AWS_ENDPOINT_URL"))

    def recipes(self) -> list[str]:
        return _stems(self.root / "recipes") if self.root is not None else []

    def released(self) -> list[str]:
        """Return the names in the catalog, and those of the project's recipes, which may be released in a bucket."""
        catalog = self.folder("catalog")
        return sorted({*self.recipes(), *(_folders(catalog / "releases") if catalog is not None else ())})

    def channels(self, name: str | None = None) -> list[str]:
        """Return the channels of a release; None: of all, and those that goldenami.yaml has conditions for."""
        catalog = self.folder("catalog")
        found: set[str] = set()
        if catalog is not None:
            for one in [name] if name else _folders(catalog / "channels"):
                found |= set(_stems(catalog / "channels" / one, ".json"))
        if found and name:
            return sorted(found)
        return sorted({*found, *_CHANNELS, *map(str, _mapping(self.environment[1].get("channels")))})

    def versions(self, name: str) -> list[str]:
        catalog = self.folder("catalog")
        return _stems(catalog / "releases" / name, ".json") if catalog is not None else []


def _silent(find: Callable[[_Here, str], Iterable[str]]) -> Words:
    """Make a completion of a function that returns words for what is written so far. An error means no words."""

    @wraps(find)
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        with suppress(Exception):
            return [word for word in find(_Here.of(ctx), incomplete) if word.startswith(incomplete)]
        return []

    return complete


@_silent
def recipes(here: _Here, incomplete: str) -> Iterator[str]:
    """The recipes of the project, by name; by path, if a path is begun."""
    if "/" not in incomplete:
        yield from here.recipes()
        return
    folder, _, _ = incomplete.rpartition("/")
    for path in sorted(Path(folder or "/").expanduser().iterdir()):
        if path.suffix == ".yaml" or path.is_dir():
            yield f"{folder}/{path.name}{'/' if path.is_dir() else ''}"


@_silent
def environments(here: _Here, _: str) -> Iterable[str]:
    """The environments of goldenami.yaml."""
    return map(str, here.environments)


@_silent
def names(here: _Here, _: str) -> Iterable[str]:
    """The names of releases."""
    return here.released()


@_silent
def channels(here: _Here, _: str) -> Iterable[str]:
    """Channels."""
    return here.channels()


@_silent
def releases(here: _Here, incomplete: str) -> Iterator[str]:
    """NAME@ first, so that the list stays short, and then the channels and versions of this name."""
    name, at, _ = incomplete.partition("@")
    if not at:
        found = [one for one in here.released() if one.startswith(incomplete)]
        if len(found) == 1:  # a shell adds a space after the only word
            yield from (f"{found[0]}@{channel}" for channel in here.channels(found[0]))
        else:
            yield from (f"{one}@" for one in found)
    elif _NAME.fullmatch(name):
        yield from (f"{name}@{one}" for one in (*here.channels(name), *reversed(here.versions(name))))


@_silent
def recipes_or_releases(here: _Here, incomplete: str) -> Iterable[str]:
    """A recipe by name, or NAME@CHANNEL."""
    if "@" in incomplete:
        name = incomplete.partition("@")[0]
        return [f"{name}@{one}" for one in here.channels(name)] if _NAME.fullmatch(name) else []
    return [word for one in here.released() for word in (one, *(f"{one}@{channel}" for channel in here.channels(one)))]


@_silent
def builds(here: _Here, _: str) -> Iterable[str]:
    """The ids of builds and tasks, newest first."""
    folder = here.folder("builds")
    found = reversed(_folders(folder)) if folder is not None else ()
    return (name for name in found if _BUILD.match(name))


@_silent
def agents(here: _Here, _: str) -> Iterable[str]:
    """The agents of the project and the shipped ones."""
    return _own_and_shipped(here, "recipes/agents", folders=True)


@_silent
def profiles(here: _Here, _: str) -> Iterable[str]:
    """The hardening profiles of the project and the shipped ones."""
    return _own_and_shipped(here, "hardening/profiles", folders=False)


@_silent
def shipped_recipes(_: _Here, __: str) -> Iterable[str]:
    """The shipped recipes."""
    from goldenami import shipped

    return _stems(shipped.ROOT / "recipes")


@_silent
def schedules(here: _Here, _: str) -> Iterable[str]:
    """The schedules of the environment."""
    return map(str, _mapping(here.environment[1].get("schedules")))


@_silent
def receivers(here: _Here, _: str) -> Iterable[str]:
    """The receivers of notifications of the environment."""
    return map(str, _mapping(here.environment[1].get("notify")))


def _own_and_shipped(here: _Here, below: str, *, folders: bool) -> list[str]:
    from goldenami import shipped

    found: set[str] = set()
    for root in filter(None, (here.root, shipped.ROOT)):
        found |= {*_stems(root / below), *(_folders(root / below) if folders else ())}
    return sorted(found)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _stems(folder: Path, suffix: str = ".yaml") -> list[str]:
    return sorted(path.name.removesuffix(suffix) for path in _entries(folder) if path.name.endswith(suffix))


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in _entries(folder) if _NAME.fullmatch(path.name) and path.is_dir())


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
