"""The order of versions, by the rules of dpkg and of rpm."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cmp_to_key, lru_cache
from typing import Any, Final

Key = tuple[Any, ...]

_END = (0,)


@lru_cache(maxsize=1 << 14)
def dpkg_key(version: str) -> Key:
    """Return a key that sorts ``[EPOCH:]UPSTREAM[-REVISION]`` as dpkg does ("Version" in the Debian Policy Manual).

    A tilde sorts before everything, even the end; letters sort before all other characters; numbers sort by value.
    """
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return (_number(epoch), _dpkg_part(upstream), _dpkg_part(revision))


def _dpkg_part(text: str) -> Key:
    """Alternately the characters between numbers, each as its rank and with an end, and the number after them."""
    found: list[Any] = []
    for other, digits in re.findall(r"([^0-9]*)([0-9]*)", text):
        if other or digits or not found:
            found += [(*map(_rank, other), 0), _number(digits)]
    return (*found, _END)


def _rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256


def _number(digits: str) -> int:
    # Python refuses to convert more than 4300 digits. No version has as many, but an index may be anyone's.
    return int(digits[:64]) if digits.isascii() and digits.isdigit() else 0


def rpm_compare(first: str, second: str) -> int:
    """Compare one part of a version (a version or a release) as rpm does: -1, 0 or 1.

    Segments of digits or letters are compared one after the other; everything between them is ignored. Digits are newer
    than letters. A tilde sorts before everything; a caret sorts after the end, and before everything else.
    """
    if first == second:
        return 0
    one, two = (re.findall(r"[0-9]+|[A-Za-z]+|~|\^", text) for text in (first, second))
    for at in range(max(len(one), len(two))):
        a, b = (words[at] if at < len(words) else "" for words in (one, two))
        if a == b:
            continue
        if "~" in (a, b):
            return -1 if a == "~" else 1
        if "^" in (a, b):
            if not a or not b:
                return 1 if b == "" else -1
            return -1 if a == "^" else 1
        if not a or not b:
            return 1 if a else -1
        if a.isdigit() and b.isdigit():
            if int(a[:64]) != int(b[:64]):
                return 1 if int(a[:64]) > int(b[:64]) else -1
            continue
        if a.isdigit() or b.isdigit():
            return 1 if a.isdigit() else -1
        return 1 if a > b else -1
    return 0


_rpm_part = cmp_to_key(rpm_compare)


@lru_cache(maxsize=1 << 14)
def rpm_key(version: str) -> Key:
    """Return a key that sorts ``[EPOCH:]VERSION[-RELEASE]`` as rpm does."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    number, _, release = rest.partition("-")
    return (_number(epoch), _rpm_part(number), _rpm_part(release))


ORDERS: Final[Mapping[str, Callable[[str], Key]]] = {"apt": dpkg_key, "dnf": rpm_key}
"""The order of versions by the name of the package manager."""
