"""What is installed on a host: packages, programs of other languages, and files that no package owns.

The text is parsed by ``evidence.packages``. It is read in the same program that seals a builder, after the sealing, so
it costs no round trip and tells what is captured. Only what the package manager knows, which the sealing does not
touch, can be read before (``PACKAGES_AHEAD``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from goldenami.os import MANAGERS
from goldenami.provision.contents import LEFT_OUT
from goldenami.provision.program import Fact
from goldenami.provision.walk import walk_below
from goldenami.shell import Script, lines, sh


def _functions() -> Script:
    """Return the functions of the host's package manager. A host without a known one has no packages."""
    code = Script("export LC_ALL=C\ninventory_packages() { :; }\ninventory_owned() { :; }\n")
    for number, manager in enumerate(MANAGERS.values()):
        code += sh(
            """@word @detect; then
echo =manager; echo ' '@name
inventory_packages() {
@packages
}
inventory_owned() {
@owned
}
""",
            word=Script("elif" if number else "if"),
            detect=manager.detect,
            name=manager.name,
            packages=manager.details,
            owned=manager.owned,
        )
    return code + Script("fi\n")


def inventory_below(top: str) -> Script:
    """Return code that prints what is below a folder; empty for the root folder. ``inventory_packages`` and
    ``inventory_owned`` must be defined, and ``$work`` be a directory."""
    # With what is below: a disk can be mounted there, at which a search begins.
    paths = "|".join(re.escape(path).replace(r"\*", ".*") for path in LEFT_OUT)
    left_out = Script(f"^{re.escape(top)}({paths})(/|$)".replace("\\", "\\\\"))
    text = Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")
    return _ahead_below(top) + walk_below(top) + sh(text, left_out=left_out, top=top)


def _ahead_below(top: str) -> Script:
    """Return the function ``inventory_ahead SUFFIX``. It writes what the package manager knows to
    ``$work/packagesSUFFIX`` and, at last, the files that belong to packages to ``$work/ownedSUFFIX``. It returns
    another status than 0, and there is no such list of files, if one of them would be cut."""
    # The line "//", which is the path of no file, goes through all programs: it is missing if one was killed.
    # A database names /bin/sh where the file is /usr/bin/sh, if /bin is a link to /usr/bin.
    return sh(
        """inventory_ahead() {
_to=$work/packages$1 _owned=$work/owned$1
inventory_packages >"$_to" || return
set --
for _name in bin sbin lib lib32 lib64 libx32; do
[ ! -L @top"/$_name" ] || set -- "$@" -e "s|^/$_name/|/usr/$_name/|"
done
set -- "$@" -e '/^\\//!d'
{ inventory_owned && echo //; } | sed "$@" -e '\\|^//$|!s|^|'@top'|' | sort -u >"$_owned-part" &&
grep -qx // "$_owned-part" && mv "$_owned-part" "$_owned"
}
""",
        top=top,
    )


INVENTORY: Final = Fact("inventory", lines(_functions(), inventory_below("")))
"""What is installed, as text for ``evidence.packages.parse``."""
PACKAGES_AHEAD: Final = Fact(
    "packages-ahead",
    lines(Script("exec >/dev/null 2>&1"), _functions(), _ahead_below(""), Script("inventory_ahead -ahead || :")),
)
"""Reads ahead, in the same program, what ``INVENTORY`` needs of the package manager; its text is empty."""
