"""Licences as packages name them, and their identifiers in the SPDX licence list.

Debian's and Fedora's names are not SPDX's. Only names with one clear meaning are translated; any other name is kept as
it is, because a wrong licence is worse than an unknown identifier.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_SAME: Final = """\
0BSD AFL-2.1 AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-2.0 BlueOak-1.0.0
BSD-2-Clause BSD-3-Clause BSD-4-Clause BSL-1.0 bzip2-1.0.6 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0
CC0-1.0 curl EPL-1.0 EPL-2.0 FSFAP FSFUL FSFULLR FTL GPL-1.0-only GPL-1.0-or-later GPL-2.0-only
GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later HPND ISC LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1-only
LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later Libpng MIT MIT-0 MPL-1.1 MPL-2.0 NCSA OFL-1.1 OLDAP-2.8
OpenSSL PostgreSQL PSF-2.0 Python-2.0 Ruby Sleepycat TCL Unlicense Vim W3C WTFPL X11 Zlib ZPL-2.1"""
_OTHERS: Final = {
    # Debian's short names: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-specification
    "Expat": "MIT",
    "Apache-2": "Apache-2.0",
    "CC0": "CC0-1.0",
    # Fedora's names before it used SPDX's, which Amazon Linux and Red Hat still have.
    "ASL 2.0": "Apache-2.0",
    "Boost": "BSL-1.0",
    "MPLv2.0": "MPL-2.0",
}
_FAMILIES: Final = {  # versions of which are written in several ways: GPL-2, GPL-2.0, GPL-2+, GPLv2+
    "GPL": ("1.0", "2.0", "3.0"),
    "LGPL": ("2.0", "2.1", "3.0"),
    "AGPL": ("3.0",),
}


def _known() -> dict[str, str]:
    found = {id.lower(): id for id in _SAME.split()}
    found |= {name.lower(): id for name, id in _OTHERS.items()}
    for family, versions in _FAMILIES.items():
        for version in versions:
            for written in {version, version.removesuffix(".0")}:
                for middle in ("-", "v"):
                    name = f"{family}{middle}{written}".lower()
                    found.setdefault(name, f"{family}-{version}-only")
                    found.setdefault(f"{name}+", f"{family}-{version}-or-later")
    return found


_KNOWN: Final = _known()
IDS: Final = frozenset(_KNOWN.values())
"""The identifiers that :func:`expression` can return, alone or in an expression."""


@lru_cache(maxsize=4096)  # thousands of packages share some hundred licences
def expression(name: str) -> str | None:
    """Return the SPDX licence expression of a name such as "GPL-2+ or MIT"; None if a part of it is not known."""
    words = re.split(r"(\s+(?:and|or)\s+|[()])", name.strip(), flags=re.IGNORECASE)
    parts: list[str] = []
    for word in (word.strip() for word in words):
        if not word:
            continue
        if word in ("(", ")"):
            parts.append(word)
        elif word.lower() in ("and", "or"):
            parts.append(word.upper())
        elif word.lower() in _KNOWN:
            parts.append(_KNOWN[word.lower()])
        else:
            return None
    text = " ".join(parts).replace("( ", "(").replace(" )", ")")
    return text if _FORM.fullmatch(text) and _balanced(text) else None


_ATOM: Final = r"\(*[A-Za-z0-9.-]+\)*"
_FORM: Final = re.compile(rf"{_ATOM}( (AND|OR) {_ATOM})*")


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0
