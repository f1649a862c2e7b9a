"""Hints for frequent failures, recognized by the output of the failing program.

The exit status does not identify the cause: apt-get ends with 100 for every error. Package managers and operating
systems add their own hints. Output that matches no pattern has no hint.
"""

from __future__ import annotations

import re

from goldenami.os import MANAGERS, SYSTEMS, Hint

MORE_MEMORY = "Choose an instance type with more memory: builder.instance_types."
_HINTS: tuple[Hint, ...] = (
    *(hint for manager in MANAGERS.values() for hint in manager.hints),
    *(hint for system in SYSTEMS.values() for hint in system.hints),
    (
        r"the repositories offer .*, and none that was asked for",
        "Change `version`, or add a repository with such a version before this operation.",
    ),
    (
        r"Temporary failure resolving|Could not resolve host|unable to resolve host address",
        "The host cannot resolve names: check the subnet's DNS, and its route to the internet (NAT, proxy).",
    ),
    (
        r"Could not connect to|Connection timed out|Network is unreachable|Failed to connect to",
        "The host cannot reach that server: check routes, NAT, security group and proxy of the build network.",
    ),
    (
        r"the value of the secret .* is in ",
        "Remove the file in the recipe (absent). If instances need the value: in_image: true beside secret: in vars.",
    ),
    (r"No space left on device", "The root volume is full: increase image.root_volume.size_gib."),
    (
        r"Unit .* not found|Unit .* does not exist|Failed to get unit file state",
        "No unit of that name is installed: add the package that contains it before the service.",
    ),
)


def find_hint(output: str) -> str | None:
    """Return the hint for the output of a failed program as a full sentence, or None if no pattern matches."""
    for pattern, hint in _HINTS:
        if re.search(pattern, output):
            return hint
    return None
