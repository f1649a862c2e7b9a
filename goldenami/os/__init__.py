"""Operating systems: what differs between them is said here, one module a family, and nowhere else.

    SYSTEMS["debian"]            a system, by the ID in /etc/os-release
    of_reference(name)           the system whose vendor names its images so
    of_release(id, id_like)      the system of a host
    MANAGERS["apt"]              a package manager that some system has

The registry is filled from the modules of this package: each one that defines ``SYSTEMS`` adds those. A new system is a
new module; docs/contributing/add-an-operating-system.md lists what else belongs to it.
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
                raise TypeError(f"two operating systems have the id {system.id!r}")
            found[system.id] = system
    for system in found.values():
        if system.like is not None and system.like not in found:
            raise TypeError(f"{system.id} is like {system.like!r}, which is no operating system here")
    return dict(sorted(found.items()))


SYSTEMS: Mapping[str, System] = MappingProxyType(_discovered())
"""All systems by id, in the order of their ids."""


def _likenesses() -> str:
    takers: dict[str, list[str]] = {}
    for system in SYSTEMS.values():
        if system.like is not None:
            takers.setdefault(system.like, []).append(system.id)
    taken = [f"{' and '.join(ids)} {'take' if ids[1:] else 'takes'} {like}'s" for like, ids in takers.items()]
    return ", ".join(taken)


LIKENESSES = _likenesses()
"""Which systems take the operations and defaults of another one, for descriptions: "ubuntu takes debian's"."""

MANAGERS: Mapping[str, PackageManager] = MappingProxyType(
    {m.name: m for m in sorted((s.manager for s in SYSTEMS.values()), key=lambda m: m.precedence)}
)
"""The package managers of all systems by name, in the order in which a host is asked for them."""


def of_reference(reference: str) -> System | None:
    """The system whose vendor uses such a name for an AMI or an SSM parameter; None if none does, or several do."""
    text = reference.lower()
    found = [system for system in SYSTEMS.values() if any(word in text for word in system.words)]
    general = {system.like for system in found}
    special = [system for system in found if system.id not in general]
    return special[0] if len(special) == 1 else None


def serving(os: str, given: Container[str]) -> str | None:
    """Which of the ids that a file has something for serves a system: its own, or that of the system that it is like.
    None if neither is there.
    """
    like = SYSTEMS[os].like if os in SYSTEMS else None
    return next((id for id in (os, like) if id is not None and id in given), None)


def of_release(id: str, id_like: str = "") -> System | None:
    """The system of a host by ID and ID_LIKE of its /etc/os-release: itself, or the first one that it is like."""
    return next((SYSTEMS[name] for name in (id, *id_like.split()) if name in SYSTEMS), None)


def described(words: Iterable[tuple[str, System]]) -> str:
    """What each system has, for a message, the same thing once: "locales (Debian, Ubuntu), glibc-langpack-en (...)"."""
    named: dict[str, list[str]] = {}
    for word, system in words:
        named.setdefault(word, []).append(system.name)
    return ", ".join(f"{word} ({', '.join(names)})" for word, names in named.items())
