"""Types of fields that several families share: what they accept, and what a refusal says."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value or "\n" in value:
        raise ValueError("expected an absolute path")
    if ".." in value.split("/"):
        raise ValueError("expected a path without ..")
    return value if value == "/" else value.rstrip("/")


def _mode(value: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}|[0-7]{4}", value):
        raise ValueError('expected permissions as three or four octal digits in quotes, such as "0644"')
    return value.zfill(4)


def _account(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|[0-9]{1,10}", value):
        raise ValueError("expected the name or number of an account")
    return value


def _one_line(value: str) -> str:
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError("expected one line")
    return value


def _package(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", value):
        raise ValueError("expected the name of a Debian package: lower-case letters, digits, + . -")
    return value


def _version(value: str) -> str:
    if not re.fullmatch(r"(>=|<=|=|<|>)?\s*[A-Za-z0-9][A-Za-z0-9.+:~-]*", value):
        raise ValueError('expected a version, with >=, <=, <, > or = before it: ">=1.22"')
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"(https?|ftp|file)://[^\s]+", value):
        raise ValueError("expected a URL: https://…, http://…")
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
