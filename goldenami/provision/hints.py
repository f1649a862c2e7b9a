"""The next step for failures that many recipes meet, recognised by what the failing program prints.

These programs have no other way to tell: apt-get ends with 100 for everything. A line of output that is not listed has
no hint, and nothing depends on one.
"""

from __future__ import annotations

import re

_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"E: Unable to locate package|E: Package '.*' has no installation candidate|Unable to find a match|find task",
        "No repository of this host has a package of that name: check the name, or add its repository before it.",
    ),
    (
        r"E: Version '.*' for '.*' was not found",
        "The repositories do not have that version; `apt-cache policy PACKAGE` on such a host lists those they have.",
    ),
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
        r"NO_PUBKEY|is not signed|The following signatures couldn't be verified|GPG check FAILED|Bad PGP signature",
        "The repository's key is missing or another one: check `key` of the repository.",
    ),
    (
        r"Unable to acquire the dpkg frontend lock",
        "Another program on the host holds dpkg's lock for more than 5 minutes.",
    ),
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
