"""Versions and references: ``1.4.20261124.2``, ``debian-12-web@stable``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from goldenami.errors import UsageError

# Names become file names, parts of SSM parameter names and parts of AMI names (128 characters, with the version and the
# architecture after it): this is what all three allow. A dot may not come first, so "." and ".." are no names.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(\d{8})\.([1-9]\d{0,8})", re.ASCII)
_LINE = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """``MAJOR.MINOR.YYYYMMDD.N``; the recipe gives ``MAJOR.MINOR``, N counts from 1 within a day. Ordered by number."""

    major: int
    minor: int
    day: int  # YYYYMMDD
    number: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.day:08}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> Version:
        """Raises UsageError. Exactly one text gives a version: no leading zeros, no signs, no blanks."""
        match = _VERSION.fullmatch(text)
        if match is None:
            raise UsageError(f"{text!r} is not a version", hint="A version looks like 1.4.20261124.1.")
        return cls(*(int(group) for group in match.groups()))

    @classmethod
    def first(cls, line: str, day: date) -> Version:
        """Number 1 of a recipe's ``MAJOR.MINOR`` on a day. Raises UsageError."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError(
                f"{line!r} is not MAJOR.MINOR", hint="Give the recipe a version of two numbers, such as 1.4."
            )
        return cls(int(match[1]), int(match[2]), int(day.strftime("%Y%m%d")), 1)

    def same_day(self, other: Version) -> bool:
        """Of the same MAJOR.MINOR and day, so that only the number tells them apart."""
        return (self.major, self.minor, self.day) == (other.major, other.minor, other.day)


def highest_first(texts: Iterable[str]) -> list[str]:
    """Return those of the texts that are versions, sorted as :class:`Version` does, for very many of them."""
    matches = [match for text in texts if (match := _VERSION.fullmatch(text)) is not None]
    matches.sort(key=_numbers, reverse=True)
    return [match[0] for match in matches]


def _numbers(match: re.Match[str]) -> tuple[int, ...]:
    return tuple(map(int, match.groups()))


def is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


def check_name(text: str, what: str) -> str:
    """``text``, if it can serve as the name of a release or a channel. Raises UsageError.

    A channel may not look like a version: after the @ of a reference, and in SSM, both stand in the same place.
    """
    if _NAME.fullmatch(text) is None:
        raise UsageError(
            f"{text!r} cannot be the name of a {what}",
            hint="Use 1 to 64 lower-case letters, digits, dots, dashes and underscores; first a letter or a digit.",
        )
    if what == "channel" and (is_version(text) or (text.endswith(".x") and _LINE.fullmatch(text[:-2]))):
        raise UsageError(f"{text!r} cannot be the name of a channel: it is a version")
    return text


@dataclass(frozen=True, slots=True)
class Reference:
    """What a person wrote to name a release: ``NAME``, ``NAME@CHANNEL``, ``NAME@VERSION`` or ``NAME@MAJOR.MINOR.x``.

    ``line``: the MAJOR.MINOR of the last form, which means the newest release of that line.
    """

    name: str
    channel: str | None = None
    version: str | None = None
    line: str | None = None

    def __str__(self) -> str:
        tail = self.channel or self.version or (self.line and f"{self.line}.x")
        return f"{self.name}@{tail}" if tail else self.name

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises UsageError."""
        name, at, tail = text.partition("@")
        check_name(name, "release")
        if not at:
            return cls(name)
        if is_version(tail):
            return cls(name, version=tail)
        line = tail.removesuffix(".x")
        if line != tail and _LINE.fullmatch(line):
            return cls(name, line=line)
        return cls(name, channel=check_name(tail, "channel"))
