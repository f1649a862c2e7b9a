"""Downloads of a lookup: bounded in size and time, and kept in a directory.

A small file (a Release file, repomd.xml) is asked for again with the validators that the server gave, ETag and
Last-Modified. An index is named by its checksum: what was read from it once is kept under that name, and no request is
made. The directory is a cache: whatever is missing or unreadable in it is downloaded. It is in the user's cache folder,
never in the project: a file there is trusted, and a project may be a checkout of somebody else's branch.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import http.client
import json
import lzma
import os
import re
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Final, TypeVar
from urllib.parse import urlsplit

from goldenami import usercache
from goldenami.each import Failures
from goldenami.errors import GoldenAmiError, NotFound, Unreachable
from goldenami.web import is_loopback

SECONDS: Final = 120.0  # for all downloads of one lookup
SMALL: Final = 4 << 20  # bytes of a Release file, repomd.xml or a list of mirrors
PACKED: Final = 192 << 20  # bytes of an index as it is downloaded
UNPACKED: Final = 2 << 30
_UNPACKING_MEMORY: Final = 192 << 20  # xz -9 needs 65 MiB
_PATIENCE: Final = 20.0  # seconds without an answer
_CHUNK: Final = 1 << 18
_KEPT: Final = 21 * 86400.0  # seconds for which an unused file stays in the cache
_MOST_KEPT: Final = 256 << 20  # bytes of all files in the cache
_FORM: Final = "1"  # of the files in the cache

T = TypeVar("T")
Extract = Callable[[Iterable[bytes]], Iterable[tuple[str, ...]]]
"""Reads the rows that a lookup needs from the contents of an index. The first field of a row is the name of a package.
The fields have no tabs and no line breaks."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index file, as the file that lists it describes it. ``algorithm``: of the checksum, a name of hashlib."""

    url: str
    algorithm: str
    checksum: str
    size: int
    packing: str  # the suffix of its name: ".xz", ".gz", …


def cache_directory() -> Path | None:
    """Return the user's directory for downloads, ``updates`` in the cache. Returns None if there is none, or if another
    user may write to it."""
    return usercache.folder("updates")


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process has read: lookups for several recipes ask for nothing twice. ``files``: small files by URL.
    ``rows``: by checksum and kind. ``verified``: the contents of signed files, by URL and keys."""

    files: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, Rows] = field(default_factory=dict)
    verified: dict[tuple[str, str], bytes] = field(default_factory=dict)


class Rows:
    """The rows of an index, by the name of the package. Most rows are never asked for, so they are kept as text."""

    def __init__(self, text: str) -> None:
        """``text``: a line for each row, with tabs between the fields."""
        self._lines: dict[str, list[str]] = {}
        for line in text.splitlines():
            self._lines.setdefault(line[: line.find("\t")], []).append(line)

    def of(self, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
        """Yield the rows of some packages."""
        for name in names:
            for line in self._lines.get(name, ()):
                yield tuple(line.split("\t"))


class Downloads:
    """The downloads of one lookup. Its methods may be called by several threads."""

    def __init__(self, directory: Path | None, memory: Memory | None = None, *, seconds: float = SECONDS) -> None:
        """``directory``: where files are kept; None keeps nothing. ``memory``: of earlier lookups in this process.
        ``seconds``: for all downloads together."""
        self._directory = directory
        self._memory = memory or Memory()
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._opener = urllib.request.OpenerDirector()
        # Not those of build_opener: they read local files and speak FTP as well.
        for handler in (
            urllib.request.ProxyHandler,
            urllib.request.HTTPHandler,
            urllib.request.HTTPSHandler,
            urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPRedirectHandler,
            urllib.request.HTTPErrorProcessor,
            urllib.request.UnknownHandler,
        ):
            self._opener.add_handler(handler())
        self._forget_old_files()

    def small(self, url: str) -> bytes:
        """Return a file of at most 4 MiB. Raises NotFound if it does not exist, Unreachable for other failures."""
        if url not in self._memory.files:
            self._memory.files[url] = self._small(url)
        return self._memory.files[url]

    def verified(self, url: str, keys: str, verify: Callable[[], bytes]) -> bytes:
        """Return what ``verify`` returns. It is called once for the same URL and keys."""
        if (url, keys) not in self._memory.verified:
            self._memory.verified[url, keys] = verify()
        return self._memory.verified[url, keys]

    def _small(self, url: str) -> bytes:
        return self.file(url, SMALL)[0]

    def file(self, url: str, most: int, *, secure: bool = False) -> tuple[bytes, str | None]:
        """Return a file of at most ``most`` bytes, and when the server says that it changed. It is asked for again only
        if it changed. Raises as :meth:`small` does. ``secure``: refuse an address that is not https, also as the target
        of a redirect, except on this machine."""
        kept = self._kept(_name(url, "file"))
        headers, body = _split(kept) if kept is not None else ({}, b"")
        validators = {
            name: headers[of]
            for name, of in (("If-None-Match", "etag"), ("If-Modified-Since", "modified"))
            if of in headers
        }
        with tempfile.SpooledTemporaryFile(SMALL) as into:
            answer = self._download(url, validators, into, most, secure=secure)
            if answer is None:
                return body, headers.get("modified")
            into.seek(0)
            body = into.read()
        fresh = {"etag": answer.get("ETag"), "modified": _modified(answer)}
        given = {name: value for name, value in fresh.items() if value}
        if given:
            self._keep(_name(url, "file"), json.dumps(given).encode() + b"\n" + body)
        return body, fresh["modified"]

    def rows(self, index: Index, kind: str, extract: Extract) -> Rows:
        """Return the rows of an index. ``kind``: the name of what is extracted.

        Raises NotFound if the index does not exist, Unreachable if it cannot be downloaded, and GoldenAmiError if it
        has another checksum, is too large, or cannot be read.
        """
        name = f"{index.checksum}.{kind}"
        if name not in self._memory.rows:
            self._memory.rows[name] = Rows(self._rows(index, name, extract))
        return self._memory.rows[name]

    def _rows(self, index: Index, name: str, extract: Extract) -> str:
        kept = self._kept(name)
        if kept is not None:
            with contextlib.suppress(OSError, EOFError, zlib.error, UnicodeDecodeError):
                return gzip.decompress(kept).decode()
        if index.size > PACKED:
            raise GoldenAmiError(f"{index.url} has {index.size} bytes, expected {PACKED} at most")
        with tempfile.TemporaryFile() as packed:
            self._download(index.url, {}, packed, min(index.size, PACKED))
            _check(packed, index)
            packed.seek(0)
            try:
                chunks = self._in_time(index.url, unpacked(packed, index.packing))
                found = "\n".join(map("\t".join, extract(chunks)))
            except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
                raise GoldenAmiError(f"{index.url} cannot be read: {error}") from error
        self._keep(name, gzip.compress(found.encode(), 1))
        return found

    def _in_time(self, url: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._check_time(url)
            yield chunk

    def _check_time(self, url: str) -> None:
        if time.monotonic() > self._end:
            raise Unreachable(f"{url}: the lookup took more than {self._seconds:.0f} seconds")

    def _download(
        self, url: str, headers: Mapping[str, str], into: IO[bytes], most: int, *, secure: bool = False
    ) -> Mapping[str, str] | None:
        """Write a file to ``into``, and return the headers of the answer; None if the file is not modified."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise GoldenAmiError(f"{url} is not read from here: expected http or https")
        self._check_time(url)
        request = urllib.request.Request(url, headers={"User-Agent": "goldenami", **headers})
        try:
            with self._opener.open(request, timeout=min(_PATIENCE, max(1.0, self._end - time.monotonic()))) as answer:
                if secure and not is_secure(answer.url):
                    raise GoldenAmiError(f"{url} leads to {answer.url}, expected an address with https")
                size = 0
                while chunk := answer.read(_CHUNK):
                    size += len(chunk)
                    if size > most:
                        raise GoldenAmiError(f"{url} has more than {most} bytes")
                    self._check_time(url)
                    into.write(chunk)
                found: Mapping[str, str] = answer.headers
                return found
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.HTTPStatus.NOT_MODIFIED and headers:
                    return None
                if error.code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
                    raise NotFound(f"{url} does not exist") from error
                raise Unreachable(f"{url}: {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
            reason = getattr(error, "reason", error)
            raise Unreachable(f"{url}: {reason or type(error).__name__}") from error

    # --- the directory ------------------------------------------------------------------------------------------------

    def _kept(self, name: str) -> bytes | None:
        if self._directory is None:
            return None
        path = self._directory / name
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def _keep(self, name: str, data: bytes) -> None:
        if self._directory is None:
            return
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor, path = tempfile.mkstemp(dir=self._directory, prefix="new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(path).replace(self._directory / name)

    def _forget_old_files(self) -> None:
        """Delete files that nobody has used for weeks, and the oldest ones above the limit of all files."""
        if self._directory is None:
            return
        with contextlib.suppress(OSError):
            used = sorted(((e.stat(), e.path) for e in os.scandir(self._directory)), key=lambda one: -one[0].st_mtime)
            total = 0
            for found, path in used:
                total += found.st_size
                if total > _MOST_KEPT or time.time() - found.st_mtime > _KEPT:
                    Path(path).unlink(missing_ok=True)


def is_secure(url: str) -> bool:
    """Return whether nobody on the way can change what is read from an address: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def _name(url: str, kind: str) -> str:
    return f"{hashlib.sha256(url.encode()).hexdigest()}.{kind}-{_FORM}"


def _modified(headers: Mapping[str, str]) -> str | None:
    """Return Last-Modified if it identifies the contents: a file may change twice in a second, so that second must be
    over (RFC 9110, section 8.8.2.2)."""
    modified, date = headers.get("Last-Modified"), headers.get("Date")
    with contextlib.suppress(TypeError, ValueError):
        if modified and date and parsedate_to_datetime(date) - parsedate_to_datetime(modified) > timedelta(seconds=1):
            return modified
    return None


def _split(kept: bytes) -> tuple[dict[str, str], bytes]:
    """Return the validators and the contents of a file in the cache; no validators if it is damaged."""
    head, newline, body = kept.partition(b"\n")
    with contextlib.suppress(ValueError):
        found = json.loads(head)
        if newline and isinstance(found, dict):
            return {str(name): str(value) for name, value in found.items()}, body
    return {}, b""


def _check(packed: IO[bytes], index: Index) -> None:
    """Raise GoldenAmiError if a file has another size or checksum than the file that lists it says."""
    packed.seek(0)
    digest = hashlib.new(index.algorithm)
    for chunk in iter(lambda: packed.read(_CHUNK), b""):
        digest.update(chunk)
    size, found = packed.tell(), digest.hexdigest()
    if (size, found) != (index.size, index.checksum):
        raise GoldenAmiError(
            f"{index.url} has {size} bytes and the {index.algorithm} {found}, expected {index.size} bytes and "
            f"{index.checksum}; the repository may be changing now"
        )


def unpacked(packed: IO[bytes], packing: str) -> Iterator[bytes]:
    """Yield the contents of a compressed file in pieces. ``packing``: ".xz", ".gz", ".bz2", ".zst", or "" for none.

    Raises ValueError for another compression and for contents of more than 2 GiB, and the errors of the compression.
    """
    match packing:
        case "":
            chunks = iter(lambda: packed.read(_CHUNK), b"")
        case ".gz":
            stream = gzip.GzipFile(fileobj=packed)
            chunks = iter(lambda: stream.read(_CHUNK), b"")
        case ".bz2":
            other = bz2.BZ2File(packed)
            chunks = iter(lambda: other.read(_CHUNK), b"")
        case ".xz":
            chunks = _of_xz(packed)
        case ".zst":
            chunks = _of_zstd(packed)
        case _:
            raise ValueError(f"unknown compression {packing}")
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > UNPACKED:
            raise ValueError(f"its contents have more than {UNPACKED} bytes")
        yield chunk


def _of_xz(packed: IO[bytes]) -> Iterator[bytes]:
    """Yield the contents of an .xz file. LZMAFile has no limit for the memory that a file may ask for."""
    decoder = lzma.LZMADecompressor(memlimit=_UNPACKING_MEMORY)
    while not decoder.eof:
        data = packed.read(_CHUNK) if decoder.needs_input else b""
        if decoder.needs_input and not data:
            raise EOFError("the file is not complete")
        yield decoder.decompress(data, _CHUNK)


def _of_zstd(packed: IO[bytes]) -> Iterator[bytes]:
    """Yield the contents of a .zst file. A file that asks for more than 128 MiB of memory is refused by the library."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    try:
        with zstd.ZstdFile(packed) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error


def first_that_answers(urls: Iterable[str], read: Callable[[str], T], missing: GoldenAmiError) -> T:
    """Return what ``read`` returns for the first of some mirrors that answers. If none does, raise the error of the
    first one; ``missing`` if there is none."""
    failures = Failures[str]()
    for url in urls:
        with failures.of(url):
            return read(url)
    raise next(iter(failures.errors.values()), missing)


def vouched_for(url: str, reason: str) -> str:
    """Return the URL at which the server vouches for what it sends: https in place of http; on this machine itself
    every URL does. ``reason``: why that is needed, for the message if the server has no https."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or is_loopback(host):
        return url
    if parts.port not in (None, 80):
        raise GoldenAmiError(f"{url} is not read over http: {reason}")
    return parts._replace(scheme="https", netloc=f"[{host}]" if ":" in host else host).geturl()


def without_credentials(url: str) -> str:
    """Return a URL without a user name and a password."""
    return re.sub(r"^([a-z0-9+.-]+://)[^/@]*@", r"\1", url, flags=re.IGNORECASE)
