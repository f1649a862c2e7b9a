"""apt's repositories: where they are configured, what they offer, and which version apt chooses.

Sources: sources.list(5), apt_preferences(5), and "RepositoryFormat" in the Debian wiki.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from goldenami.errors import GoldenAmiError, NotFound
from goldenami.model import Architecture, Package, PackagePin, PackageRepository, PackageSources, PackageUpdate
from goldenami.updates import signatures
from goldenami.updates.fetch import Downloads, Index, first_that_answers, vouched_for, without_credentials
from goldenami.updates.versions import dpkg_key

NAMES: Final[Mapping[Architecture, str]] = {"x86_64": "amd64", "arm64": "arm64"}  # dpkg's names of architectures
_DEFAULT, _INSTALLED, _AUTOMATIC_UPGRADES, _NOT_AUTOMATIC, _DOWNGRADES = 500, 100, 100, 1, 1000
_PACKINGS = (".xz", ".zst", ".gz", ".bz2", "")
_STANZA = 4 << 20  # bytes
_TRUSTED = "/etc/apt/trusted.gpg"  # also the folder trusted.gpg.d: the keys of sources that name none
_YES = ("yes", "true", "1", "with", "on", "enable")
_FIELD = re.compile(rb"^(Package|Version|Architecture|Phased-Update-Percentage):[ \t]*(\S+)", re.MULTILINE)


# --- the configuration of an image ------------------------------------------------------------------------------------


def read_sources(files: Mapping[str, str]) -> PackageSources:
    """Return the sources of an image. ``files``: its source lists, preferences and lists of mirrors, by path; and the
    held packages as the file ``held``."""
    repositories: list[PackageRepository] = []
    pins: list[PackagePin] = []
    for path, text in sorted(files.items()):
        if path.endswith(".sources"):
            repositories += _deb822(path, text, files)
        elif path.endswith(".list") and "/mirrors/" not in path:
            repositories += _one_line(path, text, files)
        elif "/preferences" in path:
            pins += _preferences(text)
    held = tuple(sorted(set(files.get("held", "").split())))
    keyrings = _keyrings(files)
    used = {key for repository in repositories for key in repository.signed_by}
    if any(not set(repository.signed_by) & keyrings.keys() for repository in repositories):
        used |= {path for path in keyrings if path.startswith(_TRUSTED)}
    kept = {path: text for path, text in keyrings.items() if path in used}
    return PackageSources("apt", tuple(dict.fromkeys(repositories)), held, tuple(pins), kept)


def _keyrings(files: Mapping[str, str]) -> dict[str, str]:
    """Return the key files that the host printed in base64, and the keys that are written in source lists."""
    keys = {path: "".join(text.split()) for path, text in files.items() if path.endswith((".gpg", ".asc", ".pgp"))}
    for path, text in files.items():
        if path.endswith(".sources"):
            for fields in _stanzas(text):
                written = fields.get("signed-by", "").strip()
                if "BEGIN PGP" in written:
                    keys[_written_key(written)] = base64.b64encode(_armored(written)).decode()
    return keys


def _written_key(text: str) -> str:
    return f"inline:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _armored(text: str) -> bytes:
    """Return a key that is the value of a field: an empty line is a dot there."""
    return "\n".join("" if line.strip() == "." else line.strip() for line in text.splitlines()).encode() + b"\n"


def _signers(text: str) -> tuple[str, ...]:
    """Return what Signed-By names: files, fingerprints, or the name of a key that is written there."""
    text = text.strip()
    return (_written_key(text),) if "BEGIN PGP" in text else tuple(re.split(r"[\s,]+", text)) if text else ()


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the stanzas of a deb822 file, with their fields in lower case. Comments are left out."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for block in re.split(r"\n[ \t]*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t"):
                fields[name] = f"{fields.get(name, '')}\n{line.strip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields:
            yield fields


def _deb822(path: str, text: str, files: Mapping[str, str]) -> Iterator[PackageRepository]:
    for fields in _stanzas(text):
        if fields.get("enabled", "yes").lower() in ("no", "false", "0") or "deb" not in fields.get("types", "").split():
            continue
        uris = [resolved for uri in fields.get("uris", "").split() for resolved in _resolved(uri, files)]
        components = tuple(fields.get("components", "").split())
        architectures = tuple(fields.get("architectures", "").split())
        for suite in fields.get("suites", "").split():
            yield PackageRepository(
                path,
                tuple(uris),
                suite=suite,
                components=components,
                architectures=architectures,
                signed_by=_signers(fields.get("signed-by", "")),
                trusted=fields.get("trusted", "").lower() in _YES,
            )


def _one_line(path: str, text: str, files: Mapping[str, str]) -> Iterator[PackageRepository]:
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)([^#]*)", line)
        if found is None:
            continue
        options = dict(word.split("=", 1) for word in (found[1] or "").split() if "=" in word)
        architectures = tuple(filter(None, options.get("arch", "").split(",")))
        uris = tuple(_resolved(found[2], files))
        yield PackageRepository(
            path,
            uris,
            suite=found[3],
            components=tuple(found[4].split()),
            architectures=architectures,
            signed_by=_signers(options.get("signed-by", "")),
            trusted=options.get("trusted", "").lower() in _YES,
        )


def _resolved(uri: str, files: Mapping[str, str]) -> list[str]:
    """Return the URIs that a URI stands for: Debian's images name a file with mirrors (apt-transport-mirror(1))."""
    if not uri.startswith("mirror+file:"):
        return [without_credentials(uri)]
    mirrors = files.get(re.sub("^/+", "/", uri.removeprefix("mirror+file:")), "")
    found = [line.split()[0] for line in mirrors.splitlines() if line.strip() and not line.startswith("#")]
    return [without_credentials(one) for one in found] or [uri]


def _preferences(text: str) -> Iterator[PackagePin]:
    for fields in _stanzas(text):
        if re.fullmatch(r"[+-]?[0-9]{1,9}", fields.get("pin-priority", "")) and fields.get("pin"):
            yield PackagePin(tuple(fields.get("package", "").split()), fields["pin"], int(fields["pin-priority"]))


# --- what a repository offers -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite of a repository: the fields of its Release file, and the versions that it offers.

    ``offers``: by name and architecture (dpkg's names; "all" for packages of every architecture): the versions that
    hosts install now. ``signed``: whether a signature of its Release file was checked.
    """

    title: str
    host: str
    release: Mapping[str, str]
    offers: Mapping[tuple[str, str], Sequence[str]]
    signed: bool = False

    @property
    def security(self) -> bool:
        """Whether it has security updates: the rule of ``patches.level``, which looks at what apt prints of it."""
        label, version, suite = (self.release.get(name, "") for name in ("label", "version", "suite"))
        return "-security" in f"{label}:{version}/{suite}"


def read_suite(
    downloads: Downloads,
    repository: PackageRepository,
    architectures: Sequence[str],
    names: Iterable[str],
    *,
    only_security: bool,
    now: datetime,
    keyrings: Mapping[str, str],
) -> Suite:
    """Read the indices of a suite. ``names``: the packages that matter. ``only_security``: no index of a suite without
    security updates is read. ``keyrings``: of the image, in base64.

    Raises NotFound if there is no Release file, Unreachable, and GoldenAmiError for a repository that cannot be read,
    or whose Release file nobody vouches for (see :func:`_read_release`).
    """
    base, release_fields, signed = _read_release(downloads, repository, keyrings)
    sums = _checksums(release_fields, base)
    expires = release_fields.get("valid-until")
    if expires is not None and _date(expires, base) < now:
        raise GoldenAmiError(f"{base}: its Release file is out of date since {expires}")
    uri = urlsplit(base)
    suite = Suite(_title(repository, uri.hostname or ""), uri.hostname or "", release_fields, {}, signed)
    if only_security and not suite.security:
        return suite
    wanted = frozenset(names)
    offers: dict[tuple[str, str], list[str]] = {}
    given = [a for a in architectures if not repository.architectures or a in repository.architectures]
    for path in _paths(repository, given):
        index = _index(base, path, sums, release_fields)
        if index is None:  # apt, too, leaves out what a repository does not have
            continue
        for name, version, architecture, phase in downloads.rows(index, "packages-1", extract_packages).of(wanted):
            # Ubuntu offers such a version only to a share of all hosts, by their machine id.
            if not phase:
                offers.setdefault((name, architecture), []).append(version)
    return replace(suite, offers=offers)


def _title(repository: PackageRepository, host: str) -> str:
    return f"{host} {repository.suite}" if repository.suite.strip("./") else host


def _read_release(
    downloads: Downloads, repository: PackageRepository, keyrings: Mapping[str, str]
) -> tuple[str, dict[str, str], bool]:
    """Return the URL of the directory of a suite, the fields of its Release file, and whether a key of the image has
    signed it. The first URI that answers.

    Without gpgv or without the keys, the server must vouch for the file: it is read over https.
    """
    suite = repository.suite
    folder = suite.strip("/") if suite.endswith("/") else f"dists/{suite}"
    texts = [keyrings[name] for name in _names_of_keys(repository, keyrings)]
    keys, identity = [base64.b64decode(text) for text in texts], hashlib.sha256("\n".join(texts).encode()).hexdigest()
    program = signatures.verifier() if keys and not repository.trusted else None

    def read(uri: str) -> tuple[str, dict[str, str], bool]:
        base = f"{uri.rstrip('/')}/{folder}".rstrip("./")
        if program is None and not repository.trusted:
            why = "gpgv is not installed here" if keys else "the release does not record its keys"
            base = vouched_for(base, f"its signature cannot be checked, because {why}")
        detached: bytes | None = None
        try:
            data = downloads.small(f"{base}/InRelease")
        except NotFound:
            data = downloads.small(f"{base}/Release")
            detached = downloads.small(f"{base}/Release.gpg") if program is not None else None
        if program is not None:
            check = partial(signatures.verified, program, data, keys, base, detached)
            data = downloads.verified(base, identity, check)
        text = data.decode(errors="replace")
        return base, next(_stanzas(text if program is not None else _unsigned(text)), {}), program is not None

    missing = GoldenAmiError(f"{repository.name} has no URI for {suite}")
    return first_that_answers(repository.uris[:3], read, missing)


def _names_of_keys(repository: PackageRepository, keyrings: Mapping[str, str]) -> list[str]:
    """Return the key files of a repository; those that the image trusts for all, if it names none or fingerprints."""
    named = [name for name in repository.signed_by if name in keyrings]
    others = any(not name.startswith(("/", "inline:")) for name in repository.signed_by)
    if named or (repository.signed_by and not others):
        return named
    return [name for name in keyrings if name.startswith(_TRUSTED)]


def _unsigned(text: str) -> str:
    """Return the text in a clear-signed file (RFC 9580, section 7)."""
    if not text.startswith("-----BEGIN PGP SIGNED MESSAGE-----"):
        return text
    text = text.replace("\r\n", "\n").partition("\n\n")[2]
    return text.partition("\n-----BEGIN PGP SIGNATURE-----")[0]


def _date(text: str, where: str) -> datetime:
    try:
        found = parsedate_to_datetime(text)
    except ValueError as error:
        raise GoldenAmiError(f"{where}: its Release file has the date {text!r}: {error}") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _checksums(release: Mapping[str, str], base: str) -> dict[str, tuple[str, int]]:
    """Return the SHA-256 and the size of every index of a Release file, by path."""
    found = {}
    for line in release.get("sha256", "").splitlines():
        words = line.split()
        if len(words) == 3 and re.fullmatch(r"[0-9a-f]{64}", words[0]) and re.fullmatch(r"[0-9]{1,12}", words[1]):
            found[words[2].removeprefix("./")] = (words[0], int(words[1]))
    if not found:
        raise GoldenAmiError(f"{base}: its Release file lists no index with a SHA-256")
    return found


def _paths(repository: PackageRepository, architectures: Sequence[str]) -> list[str]:
    if repository.suite.endswith("/"):
        return ["Packages"]
    return [f"{component}/binary-{a}/Packages" for component in repository.components for a in architectures]


def _index(base: str, path: str, sums: Mapping[str, tuple[str, int]], release: Mapping[str, str]) -> Index | None:
    packing = next((packing for packing in _PACKINGS if f"{path}{packing}" in sums), None)
    if packing is None:
        return None
    checksum, size = sums[f"{path}{packing}"]
    url = f"{base}/{path}{packing}"
    if release.get("acquire-by-hash", "").lower() == "yes":  # it cannot change while it is read
        url = f"{base}/{path.rpartition('/')[0]}/by-hash/SHA256/{checksum}".replace(f"{base}//", f"{base}/")
    return Index(url, "sha256", checksum, size, packing)


def extract_packages(chunks: Iterable[bytes]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, version, architecture and phase of each package of a Packages file. The phase is empty if every host
    installs the version. Raises ValueError for a stanza of more than 4 MiB."""
    rest = b""
    for chunk in chunks:
        *stanzas, rest = (rest + chunk).split(b"\n\n")
        if len(rest) > _STANZA:
            raise ValueError(f"a stanza has more than {_STANZA} bytes")
        for stanza in stanzas:
            yield from _package(stanza)
    yield from _package(rest)


def _package(stanza: bytes) -> Iterator[tuple[str, str, str, str]]:
    fields = _fields(stanza)
    if b"Package" in fields and b"Version" in fields:
        found = {name: value.decode("ascii", "replace") for name, value in fields.items()}
        phase = found.get(b"Phased-Update-Percentage", "")
        yield (
            found[b"Package"],
            found[b"Version"],
            found.get(b"Architecture", "all"),
            "" if phase == "100" else phase,
        )


def _fields(stanza: bytes) -> dict[bytes, bytes]:
    """Return the fields of a stanza that matter. A search for each one takes a fifth of the time of the expression."""
    if not stanza.startswith(b"Package: ") or b"\nPhased-" in stanza:
        return dict(_FIELD.findall(stanza))
    found = {b"Package": stanza[9 : stanza.find(b"\n")].strip()}
    for name in (b"Version", b"Architecture"):
        at = stanza.find(b"\n%b: " % name)
        if at < 0:
            return dict(_FIELD.findall(stanza))
        at += len(name) + 3
        end = stanza.find(b"\n", at)
        found[name] = stanza[at : end if end >= 0 else len(stanza)].strip()
    return found


# --- what apt chooses -------------------------------------------------------------------------------------------------


def choose(
    installed: Iterable[Package], suites: Sequence[Suite], sources: PackageSources, exclude: Sequence[str], level: str
) -> Iterator[PackageUpdate]:
    """Yield the upgrades that apt would make, by the rules of apt_preferences(5). Held packages are not upgraded."""
    held = frozenset(sources.held)
    for package in installed:
        if package.name in held or any(fnmatchcase(package.name, pattern) for pattern in exclude):
            continue
        update = _candidate(package, suites, sources.pins)
        if update is not None and (level == "all" or update.security):
            yield update


def _candidate(package: Package, suites: Sequence[Suite], pins: Sequence[PackagePin]) -> PackageUpdate | None:
    """Return the upgrade to the version with the highest priority; of several ones, the newest."""
    priorities = {package.version: _INSTALLED}
    origins: dict[str, list[Suite]] = {}
    for suite in suites:
        for architecture in dict.fromkeys((package.architecture, "all")):
            for version in suite.offers.get((package.name, architecture), ()):
                priority = _priority(package.name, version, suite, pins)
                priorities[version] = max(priority, priorities.get(version, priority))
                origins.setdefault(version, []).append(suite)
    current = dpkg_key(package.version)
    able = [v for v, p in priorities.items() if p >= 0 and (dpkg_key(v) >= current or p >= _DOWNGRADES)]
    if not able:
        return None
    best = max(able, key=lambda version: (priorities[version], dpkg_key(version)))
    if best == package.version:
        return None
    found = origins[best]
    security = [suite for suite in found if suite.security]
    named = (security or found)[0].title
    return PackageUpdate(package.name, package.architecture, package.version, best, named, bool(security))


def _priority(name: str, version: str, suite: Suite, pins: Sequence[PackagePin]) -> int:
    """Return the priority of a version: of the first pin for its name that matches, else of the first general one."""
    for general in (False, True):
        for pin in pins:
            if (pin.packages == ("*",)) == general and (general or _names(pin, name)) and _pinned(pin, version, suite):
                return pin.priority
    if suite.release.get("notautomatic", "").lower() == "yes":
        upgrades = suite.release.get("butautomaticupgrades", "").lower() == "yes"
        return _AUTOMATIC_UPGRADES if upgrades else _NOT_AUTOMATIC
    return _DEFAULT


def _names(pin: PackagePin, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in pin.packages)


_RELEASE_FIELDS: Final = {"a": "suite", "n": "codename", "v": "version", "o": "origin", "l": "label"}


def _pinned(pin: PackagePin, version: str, suite: Suite) -> bool:
    kind, _, rest = pin.pin.partition(" ")
    rest = rest.strip()
    match kind:
        case "version":
            return fnmatchcase(version, rest)
        case "origin":
            return fnmatchcase(suite.host, rest.strip('"'))
        case "release" if "=" in rest:
            words = [word.strip().partition("=") for word in rest.split(",")]
            return all(
                fnmatchcase(suite.release.get(_RELEASE_FIELDS.get(letter.strip(), ""), ""), value.strip().strip('"'))
                for letter, _, value in words
            )
        case "release":
            return rest in (suite.release.get("suite"), suite.release.get("codename"))
    return False
