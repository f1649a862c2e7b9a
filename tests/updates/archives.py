"""Repositories on loopback, written by hand: what apt and dnf read of them, and a log of the requests."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from goldenami.model import PackageRepository, PackageSources

Offer = tuple[str, str]  # name and version


class _Handler(SimpleHTTPRequestHandler):
    requests: list[tuple[str, int]]

    def log_request(self, code: object = "-", size: object = "-") -> None:
        self.requests.append((self.path, int(str(code))))

    def log_message(self, format: str, *args: object) -> None:
        pass


class Archive:
    """A directory that is served. ``requests``: path and status of each request since it was cleared."""

    def __init__(self, root: Path, url: str, requests: list[tuple[str, int]]) -> None:
        self.root, self.url, self.requests = root, url, requests

    # --- apt ----------------------------------------------------------------------------------------------------------

    def suite(self, suite: str, *offers: Offer, architecture: str = "amd64", fields: str = "", extra: str = "") -> None:
        """Write a suite with the component main. ``fields``: more lines of its Release file; ``extra``: of packages."""
        packages = "\n".join(
            f"Package: {name}\nSource: other\nArchitecture: {architecture}\nVersion: {version}\n{extra}"
            f"Depends: libc6 (>= 2.3)\n"
            for name, version in offers
        )
        packed = lzma.compress(packages.encode())
        path = f"main/binary-{architecture}/Packages.xz"
        digest = hashlib.sha256(packed).hexdigest()
        label = "Debian-Security" if "security" in suite else "Debian"
        release = (
            f"Origin: Debian\nLabel: {label}\nSuite: {suite}\nCodename: {suite}\n{fields}"
            f"SHA256:\n {digest} {len(packed)} {path}\n"
        )
        self.write(f"dists/{suite}/{path}", packed)
        signed = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{release}-----BEGIN PGP SIGNATURE-----\n\nx\n"
        self.write(f"dists/{suite}/InRelease", signed.encode())

    def apt(self, *suites: str) -> PackageSources:
        """The sources of an image that uses these suites."""
        every = (PackageRepository("debian.sources", (self.url,), "", suite, ("main",)) for suite in suites)
        return PackageSources("apt", tuple(every))

    # --- dnf ----------------------------------------------------------------------------------------------------------

    def repository(self, name: str, *offers: Offer, advisories: dict[Offer, tuple[str, str]] | None = None) -> None:
        """Write a repository. ``advisories``: package -> id and type."""
        packages = "".join(
            f'<package type="rpm"><name>{n}</name><arch>x86_64</arch>{_version(v)}<format>'
            f'<rpm:provides><rpm:entry name="{n}" ver="0"/></rpm:provides></format></package>'
            for n, v in offers
        )
        primary = (
            '<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm">'
            f"{packages}</metadata>"
        )
        updates = "".join(
            f'<update type="{kind}"><id>{id}</id><title>x</title><references><reference id="CVE-1"/></references>'
            f'<pkglist><collection><package name="{n}" arch="x86_64" {_attributes(v)}><filename/></package>'
            f"</collection></pkglist></update>"
            for (n, v), (id, kind) in (advisories or {}).items()
        )
        data = []
        for kind, text in (("primary", primary), ("updateinfo", f"<updates>{updates}</updates>")):
            packed = gzip.compress(text.encode())
            digest = hashlib.sha256(packed).hexdigest()
            path = f"repodata/{digest}-{kind}.xml.gz"
            self.write(f"{name}/{path}", packed)
            data.append(
                f'<data type="{kind}"><checksum type="sha256">{digest}</checksum><open-checksum type="sha256">0'
                f'</open-checksum><location href="{path}"/><size>{len(packed)}</size></data>'
            )
        repomd = f'<repomd xmlns="http://linux.duke.edu/metadata/repo">{"".join(data)}</repomd>'
        self.write(f"{name}/repodata/repomd.xml", repomd.encode())

    def dnf(self, *names: str) -> PackageSources:
        """The sources of an image that uses these repositories."""
        return PackageSources("dnf", tuple(PackageRepository(name, (f"{self.url}/{name}/",)) for name in names))

    def an_hour_passes(self) -> None:
        """What is there now was written an hour ago."""
        for file in self.root.rglob("*"):
            found = file.stat()
            os.utime(file, (found.st_atime - 3600, found.st_mtime - 3600))

    def write(self, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def _version(text: str) -> str:
    epoch, _, rest = text.rpartition(":")
    version, _, release = rest.partition("-")
    return f'<version epoch="{epoch or 0}" ver="{version}" rel="{release}"/>'


def _attributes(text: str) -> str:
    epoch, _, rest = text.rpartition(":")
    version, _, release = rest.partition("-")
    return f'epoch="{epoch or 0}" version="{version}" release="{release}"'


@contextmanager
def serve(root: Path) -> Iterator[Archive]:
    requests: list[tuple[str, int]] = []
    handler = type("Handler", (_Handler,), {"requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Archive(root, f"http://127.0.0.1:{server.server_port}", requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
