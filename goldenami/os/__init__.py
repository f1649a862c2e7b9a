"""Operating systems: the only place for differences between them, with one module for each family.

    SYSTEMS["debian"]            a system, by the ID in /etc/os-release
    of_reference(name)           the system of an AMI name or SSM parameter
    of_release(id, id_like)      the system of a host
    MANAGERS["apt"]              a package manager

The registry is filled from the modules of this package: each module that defines ``SYSTEMS`` adds those. A new system
is a new module; docs/contributing/add-an-operating-system.md lists the other steps.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType

from goldenami.os.managers.manager import (
    Code,
    Hint,
    PackageManager,
    Proofs,
    RepositoryText,
    Snapshots,
    Source,
)
from goldenami.os.system import Pam, SelfUpgrade, System, Trace, UpgradePolicy

__all__ = [
    "LIKENESSES",
    "MANAGERS",
    "SYSTEMS",
    "Code",
    "Hint",
    "PackageManager",
    "Pam",
    "Proofs",
    "RepositoryText",
    "SelfUpgrade",
    "Snapshots",
    "Source",
    "System",
    "Trace",
    "UpgradePolicy",
    "described",
    "of_reference",
    "of_release",
    "serving",
]


def _discovered() -> dict[str, System]:
    found: dict[str, System] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        systems: tuple[System, ...] = getattr(module, "SYSTEMS", ())
        for system in systems:
            if system.id in found:
                raise TypeError(f"two operating systems have the id {system.id!r}: each id must be unique")
            found[system.id] = system
    for system in found.values():
        if system.like is not None and system.like not in found:
            raise TypeError(f"{system.id} is like {system.like!r}, which is not in SYSTEMS")
    return dict(sorted(found.items()))


SYSTEMS: Mapping[str, System] = MappingProxyType(_discovered())
"""All systems by id, in the order of their ids."""


def _likenesses() -> str:
    ids_by_like: dict[str, list[str]] = {}
    for system in SYSTEMS.values():
        if system.like is not None:
            ids_by_like.setdefault(system.like, []).append(system.id)
    parts = [f"{' and '.join(ids)} {'use' if ids[1:] else 'uses'} {like}'s" for like, ids in ids_by_like.items()]
    return ", ".join(parts)


LIKENESSES = _likenesses()
"""Which systems use the operations and defaults of another one, for descriptions: "ubuntu uses debian's"."""

MANAGERS: Mapping[str, PackageManager] = MappingProxyType(
    {m.name: m for m in sorted((s.manager for s in SYSTEMS.values()), key=lambda m: m.precedence)}
)
"""The package managers of all systems by name, in the order in which they are detected on a host."""


def of_reference(reference: str) -> System | None:
    """Return the system whose vendor uses this name for an AMI or an SSM parameter. None if no system or several
    systems match.
    """
    text = reference.lower()
    found = [system for system in SYSTEMS.values() if any(word in text for word in system.words)]
    general = {system.like for system in found}
    special = [system for system in found if system.id not in general]
    return special[0] if len(special) == 1 else None


def serving(os: str, given: Container[str]) -> str | None:
    """Return the id in ``given`` whose entry a system uses: its own id, or that of the system that it is like. None if
    neither is in ``given``.
    """
    like = SYSTEMS[os].like if os in SYSTEMS else None
    return next((id for id in (os, like) if id is not None and id in given), None)


def of_release(id: str, id_like: str = "") -> System | None:
    """Return the system of a host by ID and ID_LIKE of its /etc/os-release: the system with that ID, or the first known
    one in ID_LIKE. None if all are unknown.
    """
    return next((SYSTEMS[name] for name in (id, *id_like.split()) if name in SYSTEMS), None)


def described(words: Iterable[tuple[str, System]]) -> str:
    """Join words with the names of their systems for a message. Equal words are listed once: "locales (Debian, Ubuntu),
    glibc-langpack-en (Amazon Linux)".
    """
    named: dict[str, list[str]] = {}
    for word, system in words:
        named.setdefault(word, []).append(system.name)
    return ", ".join(f"{word} ({', '.join(names)})" for word, names in named.items())
