"""Types of fields that several families of operations share, with the errors for values that they refuse."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

LARGEST_ID = (1 << 32) - 2  # of users and groups: the kernel uses the next one for "no change"


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value or "\n" in value:
        raise ValueError("expected an absolute path")
    if ".." in value.split("/"):
        raise ValueError("expected a path without ..")
    if len(value.encode()) > 4095 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise ValueError("the path is too long: expected 4095 bytes at most, and 255 between two slashes")
    return value if value == "/" else value.rstrip("/")


def _mode(value: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}|[0-7]{4}", value):
        raise ValueError('expected permissions as three or four octal digits in quotes, such as "0644"')
    return value.zfill(4)


def _account(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|[0-9]{1,10}", value):
        raise ValueError("expected the name or number of a user or group")
    return value


def _one_line(value: str) -> str:
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError("expected one line")
    return value


def _package(value: str) -> str:
    if not re.fullmatch(r"@?[A-Za-z0-9][A-Za-z0-9+._-]*", value):
        raise ValueError(
            "expected the name of a package (letters, digits, + . - _), or of a group of packages with @ before it"
        )
    return value


_RELATIONS = {">=": "ge", "<=": "le", "=": "eq", "<": "lt", ">": "gt", "": "eq"}
_PART = re.compile(r"(>=|<=|=|<|>|)\s*([A-Za-z0-9][A-Za-z0-9.+:~^_-]*)")


def version_parts(value: str) -> tuple[tuple[str, str], ...]:
    """Parse a constraint: ">=1.22,<2" gives (("ge", "1.22"), ("lt", "2")). Invalid parts are omitted."""
    found = [_PART.fullmatch(part.strip()) for part in value.split(",")]
    return tuple((_RELATIONS[match[1]], match[2]) for match in found if match is not None)


def _version(value: str) -> str:
    parts = version_parts(value)
    if len(parts) != value.count(",") + 1:
        raise ValueError('expected a version, with >=, <=, <, > or = before it, or a range: ">=1.22", ">=1.22,<2"')
    if len(parts) > 1 and any(relation == "eq" for relation, _ in parts):
        raise ValueError("an exact version cannot be combined with other versions: remove one of them")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"(https?|ftp|file)://[^\s]+", value):
        raise ValueError("expected a URL: https://…, http://…")
    try:
        parts = urlsplit(value)
        usable = parts.scheme == "file" or (parts.hostname and parts.port != 0)
    except ValueError as error:  # of an address in brackets, and of a port
        raise ValueError(f"not a URL: {error}") from None
    if not usable:
        raise ValueError("expected a URL with a host: https://host/…")
    return value


def _unit(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:_.\\@-]+", value):
        raise ValueError("expected the name of a systemd unit")
    return value


AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Mode = Annotated[str, AfterValidator(_mode)]
Account = Annotated[str, AfterValidator(_account)]
OneLine = Annotated[str, AfterValidator(_one_line)]
PackageName = Annotated[str, AfterValidator(_package)]
VersionConstraint = Annotated[str, AfterValidator(_version)]
Url = Annotated[str, AfterValidator(_url)]
UnitName = Annotated[str, AfterValidator(_unit)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
