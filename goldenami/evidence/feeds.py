"""Reads feeds of vulnerabilities, from a file or a URL: OSV's records, Debian's security tracker, dnf's advisories.

A feed is a stranger's: its size and depth are bounded, nothing in it is executed or followed, and only what is known
about wanted packages is kept. A feed that cannot be read is returned with the reason, so that it is never taken for one
that tells of no vulnerability.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json.decoder import JSONDecoder
from pathlib import Path
from typing import Any, Final, cast

from goldenami.errors import GoldenAmiError
from goldenami.evidence.packages import Inventory
from goldenami.evidence.vulnerabilities import (
    AHEAD,
    SEVERITIES,
    Ecosystem,
    Feed,
    Range,
    Statement,
    subjects_of,
    system_of,
)
from goldenami.model import FeedSource, Severity
from goldenami.os import SYSTEMS
from goldenami.reading import ANYWHERE, describe
from goldenami.updates import markup
from goldenami.updates.fetch import Downloads, is_secure, unpacked
from goldenami.updates.versions import rpm_key

FEED_BYTES: Final = 256 << 20  # of a feed as it is read
_UNPACKED: Final = 2 << 30  # of all records of a feed
_RECORD: Final = 8 << 20
_RECORDS: Final = 500_000
_TEXT: Final = 200  # characters of an id, a version or the name of a package
_EVENTS: Final = 1_000  # of one range
_VERSIONS: Final = 20_000  # of one record

_UNREADABLE: Final = (
    *(ValueError, RecursionError, OSError, EOFError),
    *(
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        NotImplementedError,
        RuntimeError,
    ),  # RuntimeError: an encrypted archive
)
_LANGUAGES: Final = {"PyPI": "pypi", "npm": "npm", "Go": "golang", "Maven": "maven"}
_WORDS: Final[Mapping[str, Severity]] = {
    **{word: word for word in SEVERITIES},
    "important": "high",
    "moderate": "medium",
    "unimportant": "negligible",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read of feeds. ``systems``: the releases of images, with the codename. ``names``: the packages, as
    advisories name them, by what they are of."""

    systems: Mapping[Ecosystem, str]
    names: Mapping[Ecosystem, frozenset[str]]

    @classmethod
    def of(cls, inventories: Iterable[Inventory]) -> Wanted:
        """Return what is needed to judge some images."""
        systems: dict[Ecosystem, str] = {}
        names: dict[Ecosystem, set[str]] = {}
        for inventory in inventories:
            systems[system_of(inventory)] = inventory.codename
            for component in inventory.components:
                for ecosystem, name, _ in subjects_of(component, inventory):
                    names.setdefault(ecosystem, set()).add(name)
        return cls(systems, {ecosystem: frozenset(found) for ecosystem, found in names.items()})


def read(source: FeedSource, wanted: Wanted, downloads: Downloads, now: datetime) -> Feed:
    """Return what a feed tells about wanted packages. A feed that cannot be read has a ``problem``."""
    try:
        data, modified = _fetch(source, downloads)
        if source.format == "security-tracker":
            statements, covers, updated = *_tracker(data, wanted), modified
        elif source.format == "updateinfo":
            statements, covers, updated = *_updateinfo(data, source, wanted), modified
        else:
            statements, covers, updated = _osv(data, wanted, now)
    except GoldenAmiError as error:
        return Feed(source.address, max_age=source.max_age, problem=error.message)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0][:_TEXT] if str(error) else type(error).__name__
        return Feed(source.address, max_age=source.max_age, problem=f"it cannot be read: {reason}")
    return Feed(source.address, tuple(statements), frozenset(covers), updated, source.max_age)


def _fetch(source: FeedSource, downloads: Downloads) -> tuple[bytes, datetime | None]:
    """Return the bytes of a feed, and when they changed."""
    if "://" in source.address:
        if not is_secure(source.address):
            raise GoldenAmiError("expected a URL with https")
        data, modified = downloads.file(source.address, FEED_BYTES, secure=True)
        return data, _of_header(modified)
    path = Path(source.address)
    try:
        data = ANYWHERE.read_bytes(path, FEED_BYTES)
        return data, datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise GoldenAmiError(describe(error, source.address)) from error


def _of_header(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


# --- OSV: https://ossf.github.io/osv-schema/ --------------------------------------------------------------------------


def _osv(data: bytes, wanted: Wanted, now: datetime) -> tuple[list[Statement], set[Ecosystem], datetime | None]:
    """Read a record, a list of records, lines of records, or a zip archive of records. A record covers what it is
    about.

    The feed is as old as the newest of them. A record with a wrong date, in the future, counts only if all have one:
    it would keep a feed that nobody updates any more fresh for ever.
    """
    marks = tuple(name.encode() for name in _names_of(wanted))
    statements: list[Statement] = []
    covers: set[Ecosystem] = set()
    newest: datetime | None = None
    wrong: datetime | None = None  # the earliest in the future
    for record in _records(data, marks):
        modified = _time(record.get("modified"))
        if modified is not None and modified > now + AHEAD:
            wrong = min(modified, wrong or modified)
        elif modified is not None:
            newest = max(modified, newest or modified)
        for entry in _list(record, "affected"):
            ecosystem = _ecosystem(_text(_map(entry, "package"), "ecosystem"), wanted)
            if ecosystem is None:
                continue
            covers.add(ecosystem)
            if "withdrawn" not in record and _is_wanted(ecosystem, _text(_map(entry, "package"), "name"), wanted):
                statements += _of_osv(record, entry, ecosystem)
    return statements, covers, newest or wrong


def _names_of(wanted: Wanted) -> Iterator[str]:
    for ecosystem in wanted.systems:
        system = SYSTEMS.get(ecosystem.name)
        if system is not None and system.osv is not None:
            yield f'"{system.osv}:{ecosystem.release}'
    yield from (f'"{name}"' for name in _LANGUAGES)


def _ecosystem(name: str, wanted: Wanted) -> Ecosystem | None:
    """Return the wanted ecosystem that OSV has under a name, which can have more behind the release: "…:24.04:LTS"."""
    if name in _LANGUAGES:
        return Ecosystem(_LANGUAGES[name])
    for ecosystem in wanted.systems:
        system = SYSTEMS.get(ecosystem.name)
        whole = f"{system.osv}:{ecosystem.release}" if system is not None and system.osv is not None else None
        if whole is not None and (name == whole or name.startswith(f"{whole}:")):
            return ecosystem
    return None


def _is_wanted(ecosystem: Ecosystem, name: str, wanted: Wanted) -> bool:
    normal = re.sub(r"[-_.]+", "-", name).lower() if ecosystem.name == "pypi" else name
    return normal in wanted.names.get(ecosystem, ())


def _records(data: bytes, marks: Collection[bytes]) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a feed. A record in an archive without any of the marks is not parsed."""
    if data.startswith(b"PK"):
        yield from _of_zip(data, marks)
        return
    if data.startswith(b"\x1f\x8b"):
        with gzip.open(io.BytesIO(data)) as stream:
            data = stream.read(FEED_BYTES + 1)
        if len(data) > FEED_BYTES:
            raise ValueError(f"more than {FEED_BYTES >> 20} MiB")
    try:
        found = json.loads(data)
    except ValueError:
        lines = data.splitlines()
        if len(lines) < 2:
            raise
        found = [json.loads(line) for line in lines if line.strip()]
    if isinstance(found, dict) and isinstance(found.get("vulns"), list):
        found = found["vulns"]
    for one in found if isinstance(found, list) else [found]:
        if not isinstance(one, dict) or not isinstance(one.get("id"), str):
            raise ValueError("expected records of OSV, each with an id")
        yield one


def _of_zip(data: bytes, marks: Collection[bytes]) -> Iterator[Mapping[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".json")]
        if not entries or len(entries) > _RECORDS:
            raise ValueError(f"{len(entries)} records, expected 1 to {_RECORDS}")
        total = 0
        for entry in entries:
            total += entry.file_size
            if entry.file_size > _RECORD or total > _UNPACKED:
                raise ValueError(f"{entry.filename[:_TEXT]!r}, or all records together, are too large")
            with archive.open(entry) as stream:
                text = stream.read(_RECORD + 1)  # the size in the archive can be wrong
            if len(text) > _RECORD:
                raise ValueError(f"{entry.filename[:_TEXT]!r} is larger than the archive says")
            if any(mark in text for mark in marks):
                found = json.loads(text)
                if not isinstance(found, dict) or not isinstance(found.get("id"), str):
                    raise ValueError("expected records of OSV, each with an id")
                yield found


def _of_osv(record: Mapping[str, Any], entry: Mapping[str, Any], ecosystem: Ecosystem) -> Iterator[Statement]:
    """Yield a statement for each CVE of a record; the ids of the record itself are aliases then."""
    own = (_text(record, "id"), *_texts(record, "aliases"))
    ids = tuple(dict.fromkeys((*own, *_texts(record, "upstream"))))
    cves = [id for id in ids if re.fullmatch(r"CVE-\d+-\d+", id)]
    specific = _map(entry, "ecosystem_specific")
    is_over = _text(specific, "urgency") == "end-of-life"
    one = Statement(
        "",
        ecosystem,
        _text(_map(entry, "package"), "name"),
        tuple(_ranges(entry)),
        frozenset(_texts(entry, "versions")),
        _severity(record, entry),
        "end of life" if is_over else "known",
    )
    for id in cves or ids[:1]:
        aliases = tuple(other for other in ids if other != id and other not in cves)
        yield Statement(id, one.ecosystem, one.package, one.ranges, one.versions, one.severity, one.state, aliases)


def _ranges(entry: Mapping[str, Any]) -> Iterator[Range]:
    for one in _list(entry, "ranges"):
        if _text(one, "type") not in ("ECOSYSTEM", "SEMVER"):
            continue
        introduced: str | None = None
        for event in _list(one, "events")[:_EVENTS]:
            if "introduced" in event:
                if introduced is not None:
                    yield Range(introduced)
                first = _text(event, "introduced")
                introduced = "" if first == "0" else first
            elif introduced is not None and _text(event, "fixed"):
                yield Range(introduced, fixed=_text(event, "fixed"))
                introduced = None
            elif introduced is not None and _text(event, "last_affected"):
                yield Range(introduced, last=_text(event, "last_affected"))
                introduced = None
        if introduced is not None:
            yield Range(introduced)


def _severity(record: Mapping[str, Any], entry: Mapping[str, Any]) -> Severity:
    """Return the severity by the first that tells it: the distribution's word, the database's word, the CVSS."""
    specific, own, database = (
        _map(entry, "ecosystem_specific"), _map(entry, "database_specific"), _map(record, "database_specific")
    )  # fmt: skip
    scores = [*_list(entry, "severity"), *_list(record, "severity")]
    words = [_text(specific, "urgency"), _text(specific, "severity"), _text(own, "severity")]
    words += [_text(score, "score") for score in scores if not _text(score, "type").startswith("CVSS")]
    words.append(_text(database, "severity"))
    for word in words:
        known = _word(word)
        if known != "unknown":
            return known
    for score in scores:
        number = cvss3(_text(score, "score"))
        if number is not None:
            return of_score(number)
    return "unknown"


def _word(word: str) -> Severity:
    return _WORDS.get(word.strip("* ").lower(), "unknown")


_IMPACT: Final = {"N": 0.0, "L": 0.22, "H": 0.56}
_METRICS: Final[Mapping[str, Mapping[str, float]]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "PR": {"N": 0.85, "L": 0.62, "H": 0.27},
    "UI": {"N": 0.85, "R": 0.62},
    "S": {"U": 0.0, "C": 1.0},
    "C": _IMPACT,
    "I": _IMPACT,
    "A": _IMPACT,
}


def cvss3(vector: str) -> float | None:
    """Return the base score of a vector of CVSS 3.0 or 3.1 (https://www.first.org/cvss/v3.1/specification-document);
    None for another text, also of CVSS 2 and 4."""
    if not vector.startswith(("CVSS:3.0/", "CVSS:3.1/")):
        return None
    given = dict(part.split(":", 1) for part in vector.split("/")[1:] if ":" in part)
    try:
        value = {name: values[given[name]] for name, values in _METRICS.items()}
    except KeyError:
        return None
    is_changed = given["S"] == "C"
    if is_changed:
        value["PR"] = {"N": 0.85, "L": 0.68, "H": 0.5}[given["PR"]]
    base = 1 - (1 - value["C"]) * (1 - value["I"]) * (1 - value["A"])
    impact = 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15 if is_changed else 6.42 * base
    if impact <= 0:
        return 0.0
    total = impact + 8.22 * value["AV"] * value["AC"] * value["PR"] * value["UI"]
    number = round(min(total * (1.08 if is_changed else 1.0), 10.0) * 100_000)
    return number / 100_000 if number % 10_000 == 0 else (number // 10_000 + 1) / 10


def of_score(score: float) -> Severity:
    """Return the word for a score of CVSS 3."""
    limits: tuple[tuple[float, Severity], ...] = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))
    return next((word for limit, word in limits if score >= limit), "negligible")


# --- Debian's security tracker: https://security-tracker.debian.org/tracker/data/json ---------------------------------


def _tracker(data: bytes, wanted: Wanted) -> tuple[list[Statement], set[Ecosystem]]:
    """Read the file of the tracker. It covers all releases that it names.

    A version 0 in it means that the release is not affected. It is read package by package, because the whole of it in
    memory takes ten times its size.
    """
    systems = {name: one for one, name in wanted.systems.items() if _is_tracked(one) and name}
    statements: list[Statement] = []
    covers: set[Ecosystem] = set()
    for package, vulnerabilities in _members(data.decode()):
        if not isinstance(vulnerabilities, dict):
            raise ValueError("expected packages with vulnerabilities")
        for id, found in vulnerabilities.items():
            for codename, release in _map(found if isinstance(found, dict) else {}, "releases").items():
                system = systems.get(codename)
                if system is None or not isinstance(release, dict):
                    continue
                covers.add(system)
                if _is_wanted(system, package, wanted):
                    statements += _of_tracker(str(id)[:_TEXT], package, system, release)
    return statements, covers


def _is_tracked(ecosystem: Ecosystem) -> bool:
    system = SYSTEMS.get(ecosystem.name)
    return system is not None and system.has_tracker


def _members(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the members of a JSON object one after the other."""
    decoder, blank = JSONDecoder(), re.compile(r"[ \t\r\n]*")

    def skip(at: int, expected: str) -> int:
        at = cast("re.Match[str]", blank.match(text, at)).end()
        if text[at : at + 1] not in expected or at >= len(text):
            raise ValueError(f"expected {' or '.join(expected)} at character {at}")
        return cast("re.Match[str]", blank.match(text, at + 1)).end()

    at = skip(0, "{")
    while text[at : at + 1] != "}":
        key, at = decoder.raw_decode(text, at)
        value, at = decoder.raw_decode(text, skip(at, ":"))
        if not isinstance(key, str):
            raise ValueError("expected an object")
        yield key, value
        end = skip(at, ",}")
        if text[cast("re.Match[str]", blank.match(text, at)).end()] == "}":
            if end != len(text):
                raise ValueError(f"unexpected text at character {end}")
            return
        at = end


def _of_tracker(id: str, package: str, system: Ecosystem, release: Mapping[str, Any]) -> Iterator[Statement]:
    fixed, status, urgency = _text(release, "fixed_version"), _text(release, "status"), _text(release, "urgency")
    if fixed == "0" or status not in ("open", "resolved", "undetermined"):
        return
    if status == "resolved" and not fixed:
        return
    is_over = urgency == "end-of-life"
    yield Statement(
        id,
        system,
        package,
        (Range(fixed=fixed),),
        severity=_word(urgency),
        state="undetermined" if status == "undetermined" else "end of life" if is_over else "known",
    )


# --- updateinfo.xml: the advisories of a repository of dnf, as createrepo_c writes them -------------------------------

_PACKINGS: Final = ((b"\x1f\x8b", ".gz"), (b"\xfd7zXZ", ".xz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"BZh", ".bz2"))


def _updateinfo(data: bytes, source: FeedSource, wanted: Wanted) -> tuple[list[Statement], set[Ecosystem]]:
    """Read advisories about security. They name the packages that have the fix; all older ones are affected."""
    system = Ecosystem(*source.covers) if source.covers is not None else None
    if system is None:
        raise ValueError("nobody says which release it is about (`covers`)")
    reader = _Advisories(system, wanted)
    packing = next((suffix for mark, suffix in _PACKINGS if data.startswith(mark)), "")
    for _ in markup.read(unpacked(io.BytesIO(data), packing), reader.start, reader.end):
        pass
    if not reader.is_updateinfo:
        raise ValueError("expected the element updates")
    return reader.statements, {system}


class _Advisories:
    """Takes the elements of an updateinfo.xml."""

    def __init__(self, system: Ecosystem, wanted: Wanted) -> None:
        self.system = system
        self.wanted = wanted.names.get(system, frozenset())
        self.statements: list[Statement] = []
        self.is_updateinfo = False
        self._begin("")

    def _begin(self, kind: str) -> None:
        self.kind, self.id = kind, ""
        self.severity: Severity = "unknown"
        self.cves: list[str] = []
        self.fixed: dict[str, set[str]] = {}

    def start(self, name: str, given: Mapping[str, str]) -> None:
        if name == "updates":
            self.is_updateinfo = True
        elif name == "update":
            self._begin(given.get("type", ""))
        elif name == "reference" and re.fullmatch(r"CVE-\d+-\d+", given.get("id", "")):
            self.cves.append(given["id"])
        elif name == "package" and given.get("name") in self.wanted:
            epoch = f"{given.get('epoch') or '0'}:"
            version = f"{epoch}{given.get('version', '')}-{given.get('release', '')}"
            self.fixed.setdefault(given["name"], set()).add(version[:_TEXT])

    def end(self, name: str, text: str) -> None:
        if name == "id" and not self.id:
            self.id = text[:_TEXT]
        elif name == "severity":
            self.severity = _word(text)
        elif name == "update" and self.kind == "security" and self.id:
            for package, versions in self.fixed.items():
                # One advisory can have several streams of a module. The lowest version is the first with the fix.
                fixed = min(versions, key=rpm_key)
                for id in dict.fromkeys(self.cves or [self.id]):
                    aliases = (self.id,) if id != self.id else ()
                    self.statements.append(
                        Statement(id, self.system, package, (Range(fixed=fixed),), frozenset(), self.severity,
                                  aliases=aliases)
                    )  # fmt: skip


# --- values of strangers ----------------------------------------------------------------------------------------------


def _map(form: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = form.get(key)
    return found if isinstance(found, dict) else {}


def _list(form: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = form.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(form: Mapping[str, Any], key: str) -> str:
    found = form.get(key)
    return "".join(c for c in found[:_TEXT] if c.isprintable()) if isinstance(found, str) else ""


def _texts(form: Mapping[str, Any], key: str) -> list[str]:
    found = form.get(key)
    return [_text({"": one}, "") for one in found[:_VERSIONS]] if isinstance(found, list) else []


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo is not None else found.replace(tzinfo=UTC)
