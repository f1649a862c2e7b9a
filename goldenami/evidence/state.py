"""The state of an image, as its builder had it before the capture: files, services, users, ports, kernel settings.

The text of the host is a stranger's: a line that is not as expected is left out, and a text that was cut says so. The
catalog keeps the state of each image as a document beside the manifest.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from goldenami.errors import CatalogError

SCHEMA: Final = "goldenami.state/1"
_MOST: Final = 256 << 20  # bytes of an unpacked document
_FIELDS: Final = {"services": 2, "users": 5, "groups": 3, "ports": 1, "sysctls": 2}
Change = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class File:
    """A file. ``kind``: as ``find`` names it: f, d, l, … ``digest``: 16 digits of the SHA-256 of a regular file; empty
    for other files, for files of more than 64 MiB, and for those that others may not read. ``target``: of a link."""

    kind: str
    mode: str
    owner: str
    size: int
    target: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The state of one image.

    ``services``: unit -> enabled, masked, …; ``users``, ``groups``, ``sysctls``: name -> the rest, as text. ``ports``:
    protocol and address -> empty. ``used``: bytes of the root disk. ``complete``: False if the text was
    cut, or the host had too many files, or was too slow.
    """

    files: Mapping[str, File]
    services: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    used: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that differs. ``what``: which parts of it. ``why``: the reason, if it is known; otherwise empty."""

    path: str
    change: Change
    what: tuple[str, ...] = ()
    why: str = ""


# --- the text of a host -----------------------------------------------------------------------------------------------


def parse(text: str, *, top: str = "") -> State | None:
    """Return the state in the text of ``provision.STATE``; None if the text has none. ``top``: the folder that the
    script read."""
    sections: dict[str, list[str]] = {}
    rows: list[str] = []
    for line in text.split("\n"):
        if line.startswith("="):
            rows = sections.setdefault(line[1:], [])
        elif line.startswith(" "):
            rows.append(line[1:])
    if "files" not in sections:
        return None
    digests = {path: digest for digest, _, path in (row.partition("\t") for row in sections.get("digests", ()))}
    named = {name: _named(sections.get(name, ()), fields) for name, fields in _FIELDS.items()}
    used = next(iter(sections.get("used", ())), "")
    return State(
        files=_files(sections["files"], digests, top),
        **named,
        used=int(used) if used.isdigit() else 0,
        complete="end" in sections,
    )


def _named(rows: Any, fields: int) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for row in rows:
        name, *rest = row.split("\t")
        if len(rest) == fields - 1:
            found.setdefault(name, []).append(" ".join(rest))
    return {name: ", ".join(filter(None, values)) for name, values in found.items()}


def _files(rows: list[str], digests: Mapping[str, str], top: str) -> dict[str, File]:
    found: dict[str, File] = {}
    for row in rows:
        parts = row.split("\t")
        if len(parts) != 6 or not parts[3].isdigit():
            continue
        kind, mode, owner, size, target, path = parts
        inside = path.removeprefix(top).removesuffix("/") or "/"
        regular = kind == "f"
        found[inside] = File(kind, mode, owner, int(size) if regular else 0, target, digests.get(path, ""))
    return found


# --- the document -----------------------------------------------------------------------------------------------------


def file_name(architecture: str) -> str:
    """Return the name of the document of an image."""
    return f"state-{architecture}.json.gz"


def dumps(state: State) -> bytes:
    """Return the document, compressed. The same state gives the same bytes."""
    form = {
        "schema": SCHEMA,
        "complete": state.complete,
        "used": state.used,
        **{name: dict(sorted(getattr(state, name).items())) for name in _FIELDS},
        "files": [
            [path, one.kind, one.mode, one.owner, one.size, one.target, one.digest]
            for path, one in sorted(state.files.items())
        ],
    }
    return gzip.compress(json.dumps(form, separators=(",", ":")).encode(), compresslevel=6, mtime=0)


def loads(data: bytes, *, source: str) -> State:
    """Read a document. ``source``: where it is, for messages. Raises CatalogError."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            text = stream.read(_MOST + 1)
        if len(text) > _MOST:
            raise ValueError("it is too large")
        form = json.loads(text)
        if form.get("schema") != SCHEMA:
            raise ValueError(f"the schema is {form.get('schema')!r}, expected {SCHEMA!r}")
        return State(
            files={str(path): File(*rest) for path, *rest in form["files"]},
            **{name: dict(form[name]) for name in _FIELDS},
            used=int(form["used"]),
            complete=bool(form["complete"]),
        )
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CatalogError(f"{source} cannot be read: {error}", hint="Restore the file from a backup.") from error


# --- comparing --------------------------------------------------------------------------------------------------------

# Why files differ between two images with the same packages and the same recipe: patterns of paths, and the reason. The
# first one that matches counts.
REASONS: Final[tuple[tuple[str, str], ...]] = (
    ("/var/log/*", "a log"),
    ("/var/cache/*", "a cache"),
    ("/var/backups/*", "a copy that the package manager or cron made"),
    ("/var/lib/apt/*", "what apt downloaded, and when"),
    ("/var/lib/dnf/*", "the history of dnf"),
    ("/var/lib/dpkg/*", "the database of dpkg: its order depends on the order of installation"),
    ("/var/lib/rpm/*", "the database of rpm has the times of installation"),
    ("/usr/lib/sysimage/*", "the database of rpm has the times of installation"),
    ("/var/lib/systemd/*", "what systemd noted while the builder ran"),
    ("/var/lib/initramfs-tools/*", "digests of the initial RAM disks"),
    ("/var/lib/logrotate/*", "when logs were rotated"),
    ("/var/lib/dhc*", "addresses of the builder"),
    ("/var/lib/NetworkManager/*", "addresses of the builder"),
    ("/var/lib/chrony/*", "the drift of the builder's clock"),
    ("/var/lib/cloud/*", "what cloud-init noted while the builder ran"),
    ("/var/lib/amazon/*", "what an agent noted while the builder ran"),
    ("/var/lib/ubuntu-advantage/*", "when the builder looked for updates"),
    ("/var/lib/update-notifier/*", "when the builder looked for updates"),
    ("/boot/initrd*", "the initial RAM disk has the times of its files"),
    ("/boot/initramfs*", "the initial RAM disk has the times of its files"),
    ("/etc/ld.so.cache", "made of the libraries, in the order of the disk"),
    ("/etc/shadow*", "has the days on which passwords changed"),
    ("/etc/*-", "a copy that passwd, useradd and groupadd make before a change"),
    ("/etc/hostname", "the name of the builder"),
    ("/etc/resolv.conf", "the network of the builder"),
    ("/etc/netplan/*", "the network of the builder"),
    ("/etc/network/interfaces.d/*", "the network of the builder"),
    ("*/__pycache__/*", "compiled Python has the time of its source"),
    ("*/__pycache__", "compiled Python has the time of its source"),
    ("/lost+found", "made with the file system"),
)


def explain(path: str) -> str:
    """Return why a file differs between two builds of one plan, if it is known; otherwise an empty text."""
    for pattern, reason in REASONS:
        if fnmatchcase(path, pattern) or (pattern.endswith("/*") and path == pattern[:-2]):
            return reason
    return ""


def changed_files(before: State, after: State) -> tuple[ChangedFile, ...]:
    """Return the files that differ in kind, mode, owner, contents or target, sorted by path. Times are not compared."""
    found = []
    for path in sorted(before.files.keys() | after.files.keys()):
        old, new = before.files.get(path), after.files.get(path)
        if old == new:
            continue
        if old is None or new is None:
            found.append(ChangedFile(path, "added" if old is None else "removed", (), explain(path)))
            continue
        contents = (old.size, old.digest) != (new.size, new.digest)
        parts = {
            "kind": old.kind != new.kind,
            "mode": old.mode != new.mode,
            "owner": old.owner != new.owner,
            "target": old.target != new.target,
            "contents": contents,
        }
        found.append(ChangedFile(path, "changed", tuple(name for name, is_so in parts.items() if is_so), explain(path)))
    return tuple(found)
