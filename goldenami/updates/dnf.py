"""dnf's repositories: where they are configured, what they offer, and which version dnf chooses.

Sources: dnf.conf(5), and the files that createrepo_c writes (repomd.xml, primary, updateinfo).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from goldenami.errors import GoldenAmiError, NotFound
from goldenami.model import Package, PackageRepository, PackageSources, PackageUpdate
from goldenami.updates import markup
from goldenami.updates.fetch import Downloads, Index, first_that_answers, vouched_for, without_credentials
from goldenami.updates.versions import rpm_key

_ALGORITHMS = ("sha256", "sha512", "sha384", "sha224")
_MIRRORS = 3  # that are tried
_PRIORITY = 99  # dnf's default; the lowest number wins


# --- the configuration of an image ------------------------------------------------------------------------------------


def read_sources(files: Mapping[str, str]) -> PackageSources:
    """Return the sources of an image. ``files``: the enabled repositories as JSON, one a line, as the file
    ``repositories``, and the list of the versionlock plugin as the file ``held``."""
    repositories = []
    for line in files.get("repositories", "").splitlines():
        found: dict[str, Any] = json.loads(line)
        repositories.append(
            PackageRepository(
                name=str(found["id"]),
                uris=tuple(without_credentials(str(url)) for url in found["baseurl"]),
                mirrors=without_credentials(str(found["mirrors"] or "")),
                priority=int(found["priority"]),
                only=tuple(map(str, found["only"])),
                exclude=tuple(map(str, found["exclude"])),
            )
        )
    locked = (line.strip() for line in files.get("held", "").splitlines())
    # NAME-EPOCH:VERSION-RELEASE.ARCHITECTURE; a line with "!" excludes a version only.
    names = (re.match(r"(.+)-[0-9*]+:[^-]+-[^-]+$", line) for line in locked if line[:1] not in ("#", "!"))
    return PackageSources("dnf", tuple(repositories), tuple(sorted({found[1] for found in names if found})))


# --- what a repository offers -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Advisory:
    """An advisory: its id, and whether it is one for security."""

    id: str
    security: bool


@dataclass(frozen=True, slots=True)
class Offers:
    """What a repository offers of the packages that matter.

    ``versions``: by name and architecture, ``[EPOCH:]VERSION-RELEASE``. ``advisories``: by name, architecture and
    version.
    """

    repository: PackageRepository
    versions: Mapping[tuple[str, str], Sequence[str]]
    advisories: Mapping[tuple[str, str, str], Sequence[Advisory]] = field(default_factory=dict)


def read_repository(downloads: Downloads, repository: PackageRepository, names: Iterable[str]) -> Offers:
    """Read the indices of a repository. ``names``: the packages that matter.

    Raises NotFound if there is no repomd.xml, Unreachable, and GoldenAmiError for a repository that cannot be read.
    """
    base, listed = _read_repomd(downloads, repository)
    wanted = frozenset(names)
    if "primary" not in listed:
        raise GoldenAmiError(f"{base}: its repomd.xml lists no packages")
    versions: dict[tuple[str, str], list[str]] = {}
    for name, architecture, version in downloads.rows(listed["primary"], "primary-1", extract_packages).of(wanted):
        versions.setdefault((name, architecture), []).append(version)
    advisories: dict[tuple[str, str, str], list[Advisory]] = {}
    if "updateinfo" in listed:
        rows = downloads.rows(listed["updateinfo"], "advisories-2", extract_advisories)
        for name, architecture, version, id, kind in rows.of(wanted):
            advisories.setdefault((name, architecture, version), []).append(Advisory(id, kind == "security"))
    return Offers(repository, versions, advisories)


def _read_repomd(downloads: Downloads, repository: PackageRepository) -> tuple[str, dict[str, Index]]:
    """Return the URL of a repository, and its indices by type. The first mirror that answers.

    Few repositories sign repomd.xml. So the server vouches for it, over https, or a metalink that was read over https
    has its checksum, and then any mirror will do.
    """
    uris, checksums = repository.uris, frozenset[str]()
    if not uris:
        uris, checksums = _mirrors(downloads, repository)
        if not checksums:
            uris = tuple(sorted(uris, key=lambda uri: not uri.startswith("https://")))

    def read(uri: str) -> tuple[str, dict[str, Index]]:
        base = uri.rstrip("/")
        if not checksums:
            base = vouched_for(base, "nothing else vouches for its repomd.xml")
        data = downloads.small(f"{base}/repodata/repomd.xml")
        if checksums and hashlib.sha256(data).hexdigest() not in checksums:
            raise GoldenAmiError(f"{base}: its repomd.xml has none of the checksums of {repository.mirrors}")
        return base, _indices(base, data)

    return first_that_answers(uris[:_MIRRORS], read, NotFound(f"the repository {repository.name} has no URL"))


def _mirrors(downloads: Downloads, repository: PackageRepository) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the URLs of a mirror list, or of a metalink (RFC 5854, version 3 of the format) with the SHA-256 that the
    repomd.xml of its mirrors may have."""
    if not repository.mirrors:
        return (), frozenset()
    where = vouched_for(repository.mirrors, "nothing else vouches for a list of mirrors")
    data = downloads.small(where)
    if b"<metalink" not in data[:1000]:
        lines = (line.strip() for line in data.decode(errors="replace").splitlines())
        return tuple(line for line in lines if line.startswith(("http://", "https://"))), frozenset()
    found: list[str] = []
    checksums: set[str] = set()
    kind = ""

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal kind
        if name == "hash":
            kind = attributes.get("type", "").lower().replace("-", "")

    def end(name: str, text: str) -> None:
        if name == "url" and text.startswith(("http://", "https://")) and text.endswith("/repodata/repomd.xml"):
            found.append(text.removesuffix("/repodata/repomd.xml"))
        elif name == "hash" and kind == "sha256":
            checksums.add(text.lower())

    _read_xml(data, where, start, end)
    return tuple(found), frozenset(checksums)


def _ignore(*_: object) -> None:
    pass


def _read_xml(data: bytes, where: str, start: markup.Start, end: markup.End) -> None:
    try:
        for _ in markup.read([data], start, end):
            pass
    except ValueError as error:
        raise GoldenAmiError(f"{where} cannot be read: {error}") from error


def _indices(base: str, data: bytes) -> dict[str, Index]:
    """Return the indices that repomd.xml lists. Those with a checksum that nobody uses any more are left out."""
    found: dict[str, Index] = {}
    fields: dict[str, str] = {}

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if name == "data":
            fields.clear()
            fields["data"] = attributes.get("type", "")
        elif name == "location":
            fields["href"] = attributes.get("href", "")
        elif name == "checksum":
            fields["algorithm"] = attributes.get("type", "")

    def end(name: str, text: str) -> None:
        if name in ("checksum", "size"):
            fields[name] = text
        elif name == "data":
            href, checksum, size = (fields.get(key, "") for key in ("href", "checksum", "size"))
            whole = re.fullmatch(r"[0-9a-f]+", checksum) and re.fullmatch(r"[0-9]{1,12}", size)
            if whole and fields.get("algorithm") in _ALGORITHMS and not href.startswith("/") and ".." not in href:
                packing = re.search(r"\.(xz|gz|bz2|zst|zck)$", href)
                url = f"{base}/{href}"
                found[fields["data"]] = Index(
                    url, fields["algorithm"], checksum, int(size), packing[0] if packing else ""
                )

    _read_xml(data, f"{base}/repodata/repomd.xml", start, end)
    return found


def extract_packages(chunks: Iterable[bytes]) -> Iterator[tuple[str, str, str]]:
    """Yield name, architecture and version of each package of a primary file. Raises ValueError for wrong XML."""
    found: list[tuple[str, str, str]] = []
    fields: dict[str, str] = {}
    depth = 0

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if name == "package":
            fields.clear()
        elif depth == 3 and name == "version":
            fields["version"] = _version(attributes)

    def end(name: str, text: str) -> None:
        nonlocal depth
        depth -= 1
        if depth == 2 and name in ("name", "arch"):
            fields[name] = _word(text)
        elif name == "package" and fields.keys() >= {"name", "arch", "version"}:
            found.append((fields["name"], fields["arch"], fields["version"]))

    for _ in markup.read(chunks, start, end):
        yield from found
        found.clear()


def extract_advisories(chunks: Iterable[bytes]) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield name, architecture and version of each package of an advisory, with the id and the type of the advisory."""
    found: list[tuple[str, str, str, str, str]] = []
    kind = id = ""
    packages: list[tuple[str, str, str]] = []

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal kind, id
        if name == "update":
            kind, id = _word(attributes.get("type", "")), ""
            packages.clear()
        elif name == "package":
            packages.append(
                (_word(attributes.get("name", "")), _word(attributes.get("arch", "")), _version(attributes))
            )

    def end(name: str, text: str) -> None:
        nonlocal id
        if name == "id" and not id:
            id = _word(text)
        elif name == "update":
            found.extend((*package, id, kind) for package in packages)

    for _ in markup.read(chunks, start, end):
        yield from found
        found.clear()


def _version(attributes: Mapping[str, str]) -> str:
    """Return a version as ``rpm -qa`` lists it for us: without the epoch 0."""
    epoch, version, release = (
        _word(attributes.get(one) or attributes.get(other) or "")
        for one, other in (("epoch", "epoch"), ("ver", "version"), ("rel", "release"))
    )
    return f"{epoch}:{version}-{release}" if epoch not in ("", "0") else f"{version}-{release}"


def _word(text: str) -> str:
    return "".join(text.split())[:256]


# --- what dnf chooses -------------------------------------------------------------------------------------------------


def choose(
    installed: Iterable[Package], offers: Sequence[Offers], sources: PackageSources, exclude: Sequence[str], level: str
) -> Iterator[PackageUpdate]:
    """Yield the upgrades that ``dnf upgrade`` would make; for the level "security", with its option --security.

    Of several installed versions of a package (kernels), the newest counts. Packages of modules are upgraded within
    modules only. Obsoletes are not considered.
    """
    newest: dict[tuple[str, str], Package] = {}
    for package in installed:
        known = newest.get((package.name, package.architecture))
        if known is None or rpm_key(package.version) > rpm_key(known.version):
            newest[package.name, package.architecture] = package
    patterns = (*exclude, *sources.held)
    for package in newest.values():
        if not any(fnmatchcase(package.name, pattern) for pattern in patterns):
            update = _candidate(package, offers, level)
            if update is not None:
                yield update


def _candidate(package: Package, offers: Sequence[Offers], level: str) -> PackageUpdate | None:
    able = [one for one in offers if _may_offer(one, package)]
    first = min((one.repository.priority or _PRIORITY for one in able), default=_PRIORITY)
    newer: dict[str, Offers] = {}
    for one in able:
        if (one.repository.priority or _PRIORITY) == first:
            for version in _versions(one, package):
                if rpm_key(version) > rpm_key(package.version) and _of_module(version) == _of_module(package.version):
                    newer.setdefault(version, one)
    named = {version: _advisories(package, version, offers) for version in newer}
    if level == "security":
        newer = {version: one for version, one in newer.items() if any(a.security for a in named[version])}
    if not newer:
        return None
    best = max(newer, key=rpm_key)
    advisories = [
        a for version in sorted(named, key=rpm_key) if rpm_key(version) <= rpm_key(best) for a in named[version]
    ]
    return PackageUpdate(
        package.name,
        package.architecture,
        package.version,
        best,
        newer[best].repository.name,
        any(a.security for a in advisories),
        tuple(dict.fromkeys(a.id for a in advisories)),
    )


def _may_offer(offers: Offers, package: Package) -> bool:
    repository = offers.repository
    if repository.only and not any(fnmatchcase(package.name, pattern) for pattern in repository.only):
        return False
    return not any(fnmatchcase(package.name, p) for p in repository.exclude) and bool(_versions(offers, package))


def _versions(offers: Offers, package: Package) -> list[str]:
    names = dict.fromkeys((package.architecture, "noarch"))
    return [version for a in names for version in offers.versions.get((package.name, a), ())]


def _advisories(package: Package, version: str, offers: Sequence[Offers]) -> list[Advisory]:
    names = dict.fromkeys((package.architecture, "noarch"))
    return [a for one in offers for n in names for a in one.advisories.get((package.name, n, version), ())]


def _of_module(version: str) -> bool:
    """Whether a package is one of a module stream: its release says so (".module+el9", ".module_el9")."""
    return ".module" in version
