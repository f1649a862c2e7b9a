"""The next step for failures that many recipes meet, recognised by what the failing program prints.

These programs have no other way to tell: apt-get ends with 100 for everything. Package managers and systems bring their
own. A line of output that is not listed has no hint, and nothing depends on one.
"""

from __future__ import annotations

import re

from goldenami.os import MANAGERS, SYSTEMS, Hint

_HINTS: tuple[Hint, ...] = (
    *(hint for manager in MANAGERS.values() for hint in manager.hints),
    *(hint for system in SYSTEMS.values() for hint in system.hints),
    (
        r"the repositories offer .*, and none that was asked for",
        "Change `version`, or add a repository that has such a version before it.",
    ),
    (
        r"Temporary failure resolving|Could not resolve host|unable to resolve host address",
        "The host cannot resolve names: check the subnet's DNS, and its way to the internet (NAT, proxy).",
    ),
    (
        r"Could not connect to|Connection timed out|Network is unreachable|Failed to connect to",
        "The host cannot reach that server: check routes, NAT, security group and proxy of the build network.",
    ),
    (r"No space left on device", "The root volume is full: raise image.root_volume.size_gib."),
    (
        r"Unit .* not found|Unit .* does not exist|Failed to get unit file state",
        "No unit of that name is installed; a package that brings it must come before the service.",
    ),
)


def of_output(output: str) -> str | None:
    """A full sentence, or None."""
    for pattern, hint in _HINTS:
        if re.search(pattern, output):
            return hint
    return None
