"""One lookup: which of the installed packages of an image have an update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from goldenami.each import each
from goldenami.model import Architecture, Package, PackageRepository, PackageSources, PackageUpdate
from goldenami.updates import apt, dnf
from goldenami.updates.fetch import Downloads

Level = Literal["all", "security"]


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a lookup. ``updates``: sorted by name. ``unread``: the repositories that could not be read, each
    with the reason; their updates are unknown. ``read``: the number of the others. ``signed``: of how many a signature
    was checked."""

    updates: tuple[PackageUpdate, ...]
    unread: tuple[str, ...]
    read: int
    signed: int = 0


def find(
    installed: Sequence[Package],
    sources: PackageSources,
    architecture: Architecture,
    *,
    level: Level,
    exclude: Sequence[str],
    downloads: Downloads,
    now: datetime,
) -> Found:
    """Return the updates that the package manager would install now. ``exclude``: names or shell patterns.

    Reads the indices of all repositories at the same time. A repository that cannot be read does not stop the others.
    """
    names = frozenset(package.name for package in installed)
    native = apt.NAMES[architecture]
    architectures = (native, *sorted({p.architecture for p in installed} - {native, "all"}))

    def read_suite(repository: PackageRepository) -> apt.Suite:
        return apt.read_suite(
            downloads,
            repository,
            architectures,
            names,
            only_security=level == "security",
            now=now,
            keyrings=sources.keyrings,
        )

    def read_repository(repository: PackageRepository) -> dnf.Offers:
        return dnf.read_repository(downloads, repository, names)

    signed = 0
    if sources.manager == "apt":
        suites = each(sources.repositories, read_suite)
        found = apt.choose(installed, list(suites.results.values()), sources, exclude, level)
        reasons, count = suites.reasons, len(suites.results)
        signed = sum(suite.signed for suite in suites.results.values())
    else:
        repositories = each(sources.repositories, read_repository)
        found = dnf.choose(installed, list(repositories.results.values()), sources, exclude, level)
        reasons, count = repositories.reasons, len(repositories.results)
    updates = tuple(sorted(found, key=lambda update: (update.name, update.architecture)))
    return Found(updates, tuple(dict.fromkeys(reasons.values())), count, signed)
