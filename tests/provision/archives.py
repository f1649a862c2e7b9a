"""Package archives that tests build: packages of both families, signed repositories, and a server that has them.

Nothing here knows goldenami; it is what Debian's and Fedora's own tools make.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def _agent_of(home: Path) -> Iterator[None]:
    """gpg starts an agent for a keyring, which would stay. An agent that the command before ended may still be about to
    end, and then gpgconf fails."""
    try:
        yield
    finally:
        command = ["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"]
        for _ in range(600):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                break
            time.sleep(0.1)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _gpg(home: Path, *arguments: str | Path) -> str:
    with _agent_of(home):
        return run("gpg", "--homedir", home, "--batch", "--quiet", *arguments)


@dataclass(frozen=True)
class Key:
    """A signing key of its own keyring."""

    home: Path
    fingerprint: str

    @classmethod
    def generate(cls, home: Path, name: str = "Example Archive") -> Key:
        home.mkdir(mode=0o700, parents=True)
        gpg = functools.partial(_gpg, home, "--passphrase", "")
        gpg("--quick-generate-key", f"{name} <archive@example.test>", "rsa2048", "sign", "never")
        listed = gpg("--with-colons", "--list-keys")
        fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
        return cls(home, fingerprint)

    def gpg(self, *arguments: str | Path) -> str:
        return _gpg(self.home, "--yes", *arguments)

    @property
    def armored(self) -> str:
        return self.gpg("--armor", "--export")

    def binary(self) -> bytes:
        target = self.home / "exported.gpg"
        self.gpg("--output", target, "--export")
        return target.read_bytes()

    def sign(self, path: Path) -> Path:
        """A detached, binary signature beside the file."""
        target = path.with_name(path.name + ".sig")
        self.gpg("--output", target, "--detach-sign", path)
        return target


def build_deb(folder: Path, name: str, version: str, files: Mapping[str, str] | None = None, **control: str) -> Path:
    """``files``: contents by path; those below bin and sbin can be run."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / f".{name}-{version.replace(':', '.')}"
    (root / "DEBIAN").mkdir(parents=True)
    fields = {
        "Package": name,
        "Version": version,
        "Architecture": "all",
        "Maintainer": "A <a@b.test>",
        **{k.replace("_", "-"): v for k, v in control.items()},
        "Description": f"an example, {name}",
    }
    (root / "DEBIAN/control").write_text("".join(f"{k}: {v}\n" for k, v in fields.items()))
    for path, text in (files or {}).items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755 if "bin/" in path else 0o644)
    conffiles = [p for p in files or {} if p.startswith("/etc/")]
    if conffiles:
        (root / "DEBIAN/conffiles").write_text("".join(f"{p}\n" for p in conffiles))
    built = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-b", root, built)
    shutil.rmtree(root)
    return built


@dataclass
class AptSuite:
    """dists/SUITE of an archive: a signed index of the packages in pool/."""

    root: Path
    key: Key
    suite: str
    label: str = "Example"
    origin: str = "Example"
    debs: list[Path] = field(default_factory=list)

    def add(self, name: str, version: str, files: Mapping[str, str] | None = None, **control: str) -> Path:
        built = build_deb(self.root / "pool", name, version, files, **control)
        self.debs.append(built)
        return built

    def publish(self, valid_until: str = "") -> None:
        """Write the index anew. A second call replaces it."""
        dist = self.root / "dists" / self.suite
        binary = dist / "main/binary-amd64"
        binary.mkdir(parents=True, exist_ok=True)
        stanzas = []
        for deb in self.debs:
            data = deb.read_bytes()
            place = f"Filename: pool/{deb.name.replace('%', '%25')}\nSize: {len(data)}\n"
            stanzas.append(f"{run('dpkg-deb', '-f', deb)}{place}SHA256: {hashlib.sha256(data).hexdigest()}\n")
        index = "\n".join(stanzas).encode()
        (binary / "Packages").write_bytes(index)
        now = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S UTC")
        release = (
            f"Origin: {self.origin}\nLabel: {self.label}\nSuite: {self.suite}\nCodename: {self.suite}\nDate: {now}\n"
            + (f"Valid-Until: {valid_until}\n" if valid_until else "")
            + "Architectures: amd64 all\nComponents: main\nSHA256:\n"
            + f" {hashlib.sha256(index).hexdigest()} {len(index)} main/binary-amd64/Packages\n"
        )
        (dist / "Release").write_text(release)
        self.key.gpg("--output", dist / "InRelease", "--clearsign", dist / "Release")


def build_rpm(
    folder: Path,
    name: str,
    version: str,
    release: str = "1",
    *,
    key: Key | None = None,
    files: Mapping[str, str] | None = None,
) -> Path:
    """With a file /opt/NAME that holds the version, and ``files``: contents by path."""
    work = folder / f".{name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    contents = {f"/opt/{name}": f"{version}-{release}\n", **(files or {})}
    for number, text in enumerate(contents.values()):
        (work / str(number)).write_text(text)
    spec = work / "x.spec"
    spec.write_text(
        f"Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: an example\nLicense: none\n"
        "BuildArch: noarch\nAutoReqProv: no\n%description\nAn example.\n"
        "%install\n"
        + "".join(f"install -D -m 0644 {work}/{i} %{{buildroot}}{path}\n" for i, path in enumerate(contents))
        + "%files\n"
        + "".join(f"{path}\n" for path in contents)
    )
    run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {work}", "--define", f"_rpmdir {folder}", spec)
    built = folder / "noarch" / f"{name}-{version}-{release}.noarch.rpm"
    if key is not None:
        gpg = {"__gpg": shutil.which("gpg"), "_gpg_name": key.fingerprint, "_gpg_path": key.home}
        with _agent_of(key.home):
            run("rpmsign", *(word for k, v in gpg.items() for word in ("--define", f"{k} {v}")), "--addsign", built)
    shutil.rmtree(work)
    return built


COMPS = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">
<comps><group><id>{name}</id><name>Example {name}</name><default>false</default><uservisible>true</uservisible>
<packagelist>{members}</packagelist></group></comps>
"""


def publish_rpms(folder: Path, groups: Mapping[str, list[str]] | None = None, advisories: str = "") -> None:
    """Index the packages below a folder as dnf reads it; again, to replace it. ``advisories``: an updateinfo.xml."""
    options: list[str | Path] = []
    for name, members in (groups or {}).items():
        lines = "".join(f'<packagereq type="mandatory">{m}</packagereq>' for m in members)
        (folder / "comps.xml").write_text(COMPS.format(name=name, members=lines))
        options = ["-g", "comps.xml"]
    run("createrepo_c", "--quiet", "--no-database", *options, folder)
    if advisories:
        (folder / "updateinfo.xml").write_text(advisories)
        run("modifyrepo_c", "--mdtype", "updateinfo", folder / "updateinfo.xml", folder / "repodata")


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Served:
    """A folder that instances can fetch from. ``requests``: the paths that were asked for, so far."""

    folder: Path
    url: str
    requests: list[str]


@contextlib.contextmanager
def served(folder: Path, to: str) -> Iterator[Served]:
    """Serve a folder over HTTP on the address by which the host ``to`` reaches this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((to, 22))
        address = probe.getsockname()[0]
    server = http.server.ThreadingHTTPServer((address, 0), functools.partial(_Handler, directory=str(folder)))
    server.requests = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Served(folder, f"http://{address}:{server.server_port}", server.requests)  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
