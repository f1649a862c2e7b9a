"""Compares what is in images with what feeds tell about vulnerabilities. Pure: reads no file and makes no request.

A distribution tells vulnerabilities of source packages, of one of its releases, and compares versions by its own rules;
for rpm, advisories name installed packages. A package that a feed does not name has no known vulnerability. That is no
statement about packages, releases or languages that no feed covers: these are counted, and told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

from goldenami.evidence.packages import SYSTEM_TYPES, Component, Inventory
from goldenami.model import Severity, VulnerabilityPolicy, VulnerabilityWaiver
from goldenami.os import MANAGERS, SYSTEMS
from goldenami.updates.versions import ORDERS

SEVERITIES: Final[tuple[Severity, ...]] = ("negligible", "low", "medium", "high", "critical")
"""The known severities, the lowest first. A vulnerability can also have the severity "unknown"."""

AHEAD: Final = timedelta(days=1)
"""How far in the future a date can be, because clocks differ. A later one is wrong, and says nothing about an age."""

State = Literal["fixable", "no fix", "end of life", "undetermined"]
"""What can be done: a newer version is known; none is; none will be, because the support ended; the feed has not
determined whether the package is affected."""


@dataclass(frozen=True, slots=True)
class Ecosystem:
    """What a statement is about: a release of a system, or the packages of a language. ``name``: the id of the system
    or the type of its package URLs. ``release``: "12"; empty for a language."""

    name: str
    release: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.release}".rstrip()


@dataclass(frozen=True, slots=True)
class Range:
    """Affected versions: from ``introduced`` (empty: from the first) to before ``fixed``, or up to ``last``. Without
    both: all later ones."""

    introduced: str = ""
    fixed: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a feed tells about one vulnerability of one package. ``id``: the CVE if there is one. ``aliases``: its other
    ids. ``versions``: affected versions beside the ranges."""

    id: str
    ecosystem: Ecosystem
    package: str
    ranges: tuple[Range, ...] = ()
    versions: frozenset[str] = frozenset()
    severity: Severity = "unknown"
    state: Literal["known", "end of life", "undetermined"] = "known"
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """What was read of a feed. ``updated``: when it changed last; None if that is not known. ``covers``: what it tells
    about, also if no package of ours is in it. ``problem``: why it was not read; then it covers nothing."""

    name: str
    statements: tuple[Statement, ...] = ()
    covers: frozenset[Ecosystem] = frozenset()
    updated: datetime | None = None
    max_age: timedelta | None = None
    problem: str = ""

    def why_unusable(self, now: datetime, max_age: timedelta) -> str:
        """Return why the feed proves nothing; empty if it does. ``max_age``: of the policy, if the feed has none."""
        most = self.max_age or max_age
        if self.problem:
            return self.problem
        if self.updated is None:
            return "it does not say how old it is"
        age = now - self.updated
        if age < -AHEAD:
            return f"it is dated {_days(-age)} in the future"
        return f"it is {_days(age)} old, expected {_days(most)} at most" if age > most else ""


def _days(span: timedelta) -> str:
    hours = int(span.total_seconds() // 3600)
    return f"{hours // 24} d" if hours >= 48 else f"{hours} h"


@dataclass(frozen=True, slots=True)
class Finding:
    """A vulnerability of a package of an image. ``package``: its source package, or the package of a language.
    ``installed``: the packages that were built from it. ``fixed``: the first version without it, empty if there is none
    for this release. ``feeds``: who tells it."""

    id: str
    package: str
    version: str
    severity: Severity
    state: State
    fixed: str = ""
    installed: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy says about an image. ``failing``: the findings that it does not accept. ``waived``: those with a
    waiver that is valid, with its reason. ``accepted``: all others. ``unknown``: why the image cannot be judged; an
    image with such reasons is never good. ``remarks``: what no feed covers and the policy does not demand."""

    failing: tuple[Finding, ...] = ()
    waived: tuple[tuple[Finding, str], ...] = ()
    accepted: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the image is known to meet the policy."""
        return not self.failing and not self.unknown


# --- the order of versions --------------------------------------------------------------------------------------------

_Order = Callable[[str], Any]
_TYPE_ORDERS: Final[Mapping[str, _Order]] = {m.package_type: ORDERS[m.name] for m in MANAGERS.values()}
_SEMVER: Final = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[.-]?([0-9A-Za-z.-]+))?(?:\+.*)?")


@lru_cache(maxsize=1 << 14)
def semver_key(version: str) -> tuple[Any, ...]:
    """Return a key that sorts versions as https://semver.org does. A missing number is 0."""
    found = _SEMVER.fullmatch(version)
    if found is None:
        return ((-1,), ())
    numbers = tuple(int((part or "0")[:64]) for part in found.groups()[:3])
    if not found[4]:
        return (numbers, (2,))  # a release is newer than its pre-releases
    parts = tuple((0, int(p[:64]), "") if p.isdecimal() else (1, 0, p) for p in found[4].split("."))
    return (numbers, (1, parts))


def _order(type: str) -> _Order | None:
    """Return the order of a type of packages; None if only equal versions can be compared."""
    return _TYPE_ORDERS.get(type) or (semver_key if type in ("golang", "npm") else None)


def affected(statement: Statement, version: str, type: str) -> tuple[bool, str]:
    """Return whether a version is affected, and the first version that is fixed: empty if none is known."""
    order = _order(type)
    for one in statement.ranges:
        if order is None:
            break
        key = order(version)
        if one.introduced and key < order(one.introduced):
            continue
        if one.fixed and key >= order(one.fixed):
            continue
        if one.last and key > order(one.last):
            continue
        return True, one.fixed
    return version in statement.versions, ""


# --- findings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Subject:
    """A package as advisories name it."""

    ecosystem: Ecosystem
    type: str
    name: str
    version: str


def subjects_of(component: Component, inventory: Inventory) -> tuple[tuple[Ecosystem, str, str], ...]:
    """Return how advisories name a component: what they are about, the name of the package, and its version.

    A source package that only signs the files of another one has two names: advisories use either of them.
    """
    if component.type not in SYSTEM_TYPES:
        name = f"{component.group}:{component.name}" if component.group else component.name
        return ((Ecosystem(component.type), _normal(component.type, name), component.version),)
    ecosystem = system_of(inventory)
    system = SYSTEMS.get(inventory.system)
    if system is None or system.advisories_name == "binary":
        return ((ecosystem, component.name, component.version),)
    own = component.source, component.source_version
    return tuple((ecosystem, *named) for named in dict.fromkeys((system.advisory_source(*own), own)))


def _normal(type: str, name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower() if type == "pypi" else name


def system_of(inventory: Inventory) -> Ecosystem:
    """Return the release of the system of an image, without a minor number that the system's releases do not have."""
    system = SYSTEMS.get(inventory.system)
    known = system.releases if system is not None else {}
    release = inventory.release
    return Ecosystem(inventory.system, release if release in known else next(
        (one for one in known if release.startswith(f"{one}.")), release
    ))  # fmt: skip


def find(inventory: Inventory, feeds: Sequence[Feed]) -> tuple[Finding, ...]:
    """Return the vulnerabilities that feeds tell about an image, the worst first. Each is told once for each source
    package and version, with the best that any feed knows."""
    installed: dict[_Subject, list[str]] = {}
    for component in inventory.components:
        for ecosystem, name, version in subjects_of(component, inventory):
            installed.setdefault(_Subject(ecosystem, component.type, name, version), []).append(component.name)
    by_package: dict[tuple[Ecosystem, str], list[_Subject]] = {}
    for subject in installed:
        by_package.setdefault((subject.ecosystem, subject.name), []).append(subject)
    found: dict[tuple[_Subject, str], Finding] = {}
    for feed in feeds:
        for statement in feed.statements:
            name = _normal(statement.ecosystem.name, statement.package)
            for subject in by_package.get((statement.ecosystem, name), ()):
                finding = _finding(statement, subject, installed[subject], feed.name)
                if finding is not None:
                    key = subject, finding.id
                    found[key] = _joined(found[key], finding, subject.type) if key in found else finding
    return tuple(sorted(found.values(), key=_rank))


def _finding(statement: Statement, subject: _Subject, installed: Iterable[str], feed: str) -> Finding | None:
    is_affected, fixed = affected(statement, subject.version, subject.type)
    if not is_affected:
        return None
    state: State = statement.state if statement.state != "known" else "fixable" if fixed else "no fix"
    names = tuple(sorted(set(installed)))
    return Finding(
        statement.id,
        subject.name,
        subject.version,
        statement.severity,
        "fixable" if fixed else state,
        fixed,
        names,
        statement.aliases,
        (feed,),
    )


_STATES: Final[tuple[State, ...]] = ("undetermined", "no fix", "end of life", "fixable")


def _joined(one: Finding, other: Finding, type: str) -> Finding:
    """Return what two statements tell about the same vulnerability: the higher severity, the lowest fixed version."""
    order = _order(type)
    fixes = [fixed for fixed in (one.fixed, other.fixed) if fixed]
    return replace(
        one,
        severity=max(one.severity, other.severity, key=severity_rank),
        state=max(one.state, other.state, key=_STATES.index),
        fixed=min(fixes, key=order) if fixes and order is not None else next(iter(fixes), ""),
        aliases=tuple(sorted({*one.aliases, *other.aliases})),
        feeds=tuple(sorted({*one.feeds, *other.feeds})),
    )


def severity_rank(severity: Severity) -> int:
    """Return a number that sorts severities; that of "unknown" is the lowest."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1


def _rank(finding: Finding) -> tuple[Any, ...]:
    return (-severity_rank(finding.severity), finding.package, finding.id, finding.version)


# --- the policy -------------------------------------------------------------------------------------------------------


def judge(inventory: Inventory, feeds: Sequence[Feed], policy: VulnerabilityPolicy, now: datetime) -> Verdict:
    """Return what a policy says about an image.

    A vulnerability of unknown severity counts as one that is severe enough: nobody said that it is not. An image whose
    system no usable feed covers cannot be judged; nor can one of which only a part is known.
    """
    usable = [feed for feed in feeds if not feed.why_unusable(now, policy.max_age)]
    unknown = [f"feed {feed.name}: {reason}" for feed in feeds if (reason := feed.why_unusable(now, policy.max_age))]
    if not feeds:
        unknown.append("the environment names no feed of vulnerabilities")
    covered = frozenset[Ecosystem]().union(*(feed.covers for feed in usable))
    system = system_of(inventory)
    if inventory.packages and system not in covered:
        unknown.append(f"no usable feed covers {system}")
    if not inventory.complete:
        unknown.append("the inventory of the image is not complete")
    if not inventory.packages:
        unknown.append("the inventory of the image has no packages of its system")
    failing: list[Finding] = []
    waived: list[tuple[Finding, str]] = []
    accepted: list[Finding] = []
    for finding in find(inventory, usable):
        waiver = _waiver(finding, policy, now.date())
        if waiver is not None:
            waived.append((finding, waiver))
        elif _counts(finding, policy):
            failing.append(finding)
        else:
            accepted.append(finding)
    return Verdict(
        tuple(failing),
        tuple(waived),
        tuple(accepted),
        tuple(unknown),
        (*_ended(failing, policy), *_uncovered(inventory, covered)),
    )


def _uncovered(inventory: Inventory, covered: frozenset[Ecosystem]) -> Iterable[str]:
    counts: dict[str, int] = {}
    for one in inventory.components:
        if one.type not in SYSTEM_TYPES and Ecosystem(one.type) not in covered:
            counts[one.type] = counts.get(one.type, 0) + 1
    for type, count in sorted(counts.items()):
        yield f"no usable feed covers {count} {'package' if count == 1 else 'packages'} of the type {type}"


def _counts(finding: Finding, policy: VulnerabilityPolicy) -> bool:
    if policy.fixable and finding.state in ("no fix", "undetermined"):
        return False  # an end of life counts: its end is a newer release
    if finding.severity == "unknown":
        return True
    return severity_rank(finding.severity) >= severity_rank(policy.severity)


def _waiver(finding: Finding, policy: VulnerabilityPolicy, today: date) -> str | None:
    return next((one.reason for one in _waivers(finding, policy) if one.expires >= today), None)


def _waivers(finding: Finding, policy: VulnerabilityPolicy) -> Iterable[VulnerabilityWaiver]:
    for waiver in policy.waivers:
        named = waiver.id in (finding.id, *finding.aliases)
        if named and (not waiver.packages or finding.package in waiver.packages):
            yield waiver


def _ended(failing: Iterable[Finding], policy: VulnerabilityPolicy) -> Iterable[str]:
    """Return remarks about waivers of findings that fail: they have ended."""
    ended = {waiver.id: waiver.expires for finding in failing for waiver in _waivers(finding, policy)}
    return [f"the waiver of {id} ended on {expires.isoformat()}" for id, expires in sorted(ended.items())]
