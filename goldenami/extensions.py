"""Finds extensions by their entry points: operations, agents, checks and transports of other distributions.

An extension is a Python package that is installed in the same environment. Its ``pyproject.toml`` names what it adds::

    [project.entry-points."goldenami.transports"]
    bastion = "acme_goldenami.bastion:open_socket"

docs/extending.md explains the entry points of each group. An extension is imported only when it is needed. As in every
Python program, the user who installs packages decides which code runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from goldenami.errors import NotFound, UsageError
from goldenami.packages import EntryPoint, entry_points

Group = Literal["goldenami.operations", "goldenami.agents", "goldenami.checks", "goldenami.transports"]
OPERATIONS: Final[Group] = "goldenami.operations"
AGENTS: Final[Group] = "goldenami.agents"
CHECKS: Final[Group] = "goldenami.checks"
TRANSPORTS: Final[Group] = "goldenami.transports"


def installed(group: Group) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name, sorted. Raises UsageError if two distributions have the same name."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group):
        before = found.setdefault(entry.name, entry)
        if before != entry:
            raise UsageError(
                f"two packages add {entry.name!r} to {group}: {before.origin} and {entry.origin}",
                hint="Uninstall one of them.",
            )
    return dict(sorted(found.items()))


def load(group: Group, name: str) -> Any:
    """Import the object behind an entry point. Raises NotFound for an unknown name, UsageError if the import fails."""
    entries = installed(group)
    if name not in entries:
        raise NotFound(
            f"no installed package adds {name!r} to {group}", hint=f"Installed: {', '.join(entries) or 'none'}."
        )
    entry = entries[name]
    try:
        return entry.load()
    except Exception as error:
        raise UsageError(
            f"{entry.origin}: the entry point {name} = {entry.value!r} of {group} cannot be imported: "
            f"{type(error).__name__}: {error}",
            hint="Repair or uninstall the package.",
        ) from error
