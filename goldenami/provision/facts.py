"""Facts about a host: its installed packages and their changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from goldenami.errors import BuilderError
from goldenami.model import Package, PackageChange
from goldenami.os import MANAGERS, privileges
from goldenami.provision.program import Fact
from goldenami.provision.shell import Script

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Connection

_PACKAGES_SECONDS = 120.0  # time limit for the list

PACKAGES = Fact(
    "packages",
    Script(
        "".join(f"{m.detect.text} && exec {m.inventory.text}\n" for m in MANAGERS.values())
        + f"echo 'this host has none of the package managers {', '.join(MANAGERS)}' >&2\nexit 1"
    ),
)
"""The installed packages, as text for ``parse_packages``."""

SOURCES = Fact(
    "sources",
    Script("".join(f"{m.detect.text} && {{\n{m.sources.text}\nexit 0\n}}\n" for m in MANAGERS.values()) + "exit 0"),
)
"""Where the package manager takes packages from, as text for ``updates.sources.read``."""

SET_ID = Fact("set-id", Script(f"{{\n{privileges.SET_ID}\n}} 2>/dev/null || :"))
"""The files with the set-user-ID or set-group-ID bit, one in a line: mode, owner:group and path."""


def packages(connection: Connection) -> tuple[Package, ...]:
    """Return the installed packages, sorted by name. Raises BuilderError if the host has no known package manager."""
    done = connection.run(PACKAGES.script.text, timeout=_PACKAGES_SECONDS)
    if done.status != 0:
        raise BuilderError(
            f"the installed packages could not be listed: {done.stderr.decode(errors='replace').strip()}"
        )
    return parse_packages(done.text)


def parse_packages(text: str) -> tuple[Package, ...]:
    """Parse lines ``status|name|version|architecture``. Removed packages with remaining configuration are left out."""
    found = set()
    for line in text.splitlines():
        status, name, version, architecture = line.split("|")
        if status[1:2] == "i" and name != "gpg-pubkey":
            found.add((name, architecture, version))
    return tuple(Package(name, version, architecture) for name, architecture, version in sorted(found))


def package_changes(before: Iterable[Package], after: Iterable[Package]) -> tuple[PackageChange, ...]:
    """Return the packages that were installed, upgraded or removed, by name. Several versions of one package are
    joined with commas.
    """
    old, new = _versions(before), _versions(after)
    names = sorted(old.keys() | new.keys())
    return tuple(PackageChange(n, old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n))


def _versions(packages: Iterable[Package]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for package in packages:
        found.setdefault(package.name, set()).add(package.version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}
