"""Which indices of repositories are believed: signed ones, those of a server that vouches for them, and no others."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from goldenami.errors import GoldenAmiError
from goldenami.model import Package, PackageRepository, PackageSources
from goldenami.release.catalog import Catalog
from goldenami.updates import signatures, sources
from goldenami.updates.fetch import Downloads, vouched_for
from goldenami.updates.lookup import Found, find
from tests.updates.archives import Archive

pytestmark = pytest.mark.skipif(
    shutil.which("gpg") is None or shutil.which("gpgv") is None, reason="needs gpg and gpgv (apt-get install gnupg)"
)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
INSTALLED = (Package("bash", "5.2", "amd64"),)
KEY = "/usr/share/keyrings/archive.asc"


class Signer:
    """A key that signs Release files."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback"]
        self._run("--passphrase", "", "--quick-gen-key", "archive@example.org", "ed25519", "sign", "never")
        self.armored = self._run("--armor", "--export")
        self.binary = self._run("--export")

    def clear(self, text: bytes) -> bytes:
        return self._run("--clearsign", stdin=text)

    def detached(self, text: bytes) -> bytes:
        return self._run("--armor", "--detach-sign", stdin=text)

    def end(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self._gpg[2], "--kill", "all"], check=False)

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return subprocess.run([*self._gpg, *arguments], input=stdin, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Signer, Signer]]:
    base = tmp_path_factory.mktemp("gpg")
    both = Signer(base / "a"), Signer(base / "b")
    yield both
    for one in both:
        one.end()


def write(archive: Archive, signer: Signer | None, *, version: str = "5.3", detached: bool = False) -> None:
    """Write a suite whose Release file somebody has signed."""
    archive.suite("stable", ("bash", version))
    file = archive.root / "dists/stable/InRelease"
    text = file.read_bytes().partition(b"\n\n")[2].partition(b"-----BEGIN PGP SIGNATURE")[0]
    if signer is None:
        return
    if detached:
        file.unlink()
        archive.write("dists/stable/Release", text)
        archive.write("dists/stable/Release.gpg", signer.detached(text))
    else:
        file.write_bytes(signer.clear(text))


def look(archive: Archive, key: bytes | None, **repository: object) -> Found:
    (one,) = archive.apt("stable").repositories
    keyrings = {KEY: base64.b64encode(key).decode()} if key is not None else {}
    named = PackageRepository(**{**{f: getattr(one, f) for f in one.__slots__}, "signed_by": (KEY,), **repository})
    at = PackageSources("apt", (named,), keyrings=keyrings)
    return find(INSTALLED, at, "x86_64", level="all", exclude=(), downloads=Downloads(None), now=NOW)


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("form", ["armored", "binary"])
def test_a_valid_signature(archive: Archive, signers: tuple[Signer, Signer], form: str, detached: bool) -> None:
    write(archive, signers[0], detached=detached)
    found = look(archive, getattr(signers[0], form))
    assert ([u.after for u in found.updates], found.read, found.signed) == (["5.3"], 1, 1)


@pytest.mark.parametrize("detached", [False, True])
def test_a_foreign_or_wrong_signature_hides_no_update_and_makes_none(
    archive: Archive, signers: tuple[Signer, Signer], detached: bool
) -> None:
    """Somebody on the way cannot cause a build, and cannot say that there is no update: it is told as unread."""
    ours, theirs = signers
    write(archive, theirs, detached=detached)
    found = look(archive, ours.armored)
    assert (found.updates, found.read) == ((), 0)
    assert "is not by a key that the image trusts" in found.unread[0]
    write(archive, ours, detached=detached)
    file = archive.root / f"dists/stable/{'Release' if detached else 'InRelease'}"
    file.write_bytes(file.read_bytes().replace(b"Debian", b"Debiam"))
    assert "signature of" in look(archive, ours.armored).unread[0]
    write(archive, None)
    assert look(archive, ours.armored).read == 0


def test_only_what_is_signed_counts(archive: Archive, signers: tuple[Signer, Signer]) -> None:
    write(archive, signers[0], version="5.2")
    file = archive.root / "dists/stable/InRelease"
    file.write_bytes(b"Suite: evil\n\n" + file.read_bytes() + b"\nSHA256:\n 00 1 main/binary-amd64/Packages.xz\n")
    found = look(archive, signers[0].binary)
    assert found.updates == ()


def test_an_image_may_trust_a_repository_without_a_signature(archive: Archive, signers: tuple[Signer, Signer]) -> None:
    write(archive, None)
    found = look(archive, signers[0].binary, trusted=True)
    assert ([u.after for u in found.updates], found.signed) == (["5.3"], 0)


def test_without_gpgv_the_server_must_vouch_for_its_files(
    archive: Archive, signers: tuple[Signer, Signer], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(archive, signers[0])
    monkeypatch.setenv("PATH", "")
    assert signatures.verifier() is None
    found = look(archive, signers[0].binary)  # on this machine, nobody is on the way
    assert (found.read, found.signed) == (1, 0)
    elsewhere = look(archive, signers[0].binary, uris=("http://mirror.example.org:8080/debian",))
    assert (
        "is not read over http: its signature cannot be checked, because gpgv is not installed" in elsewhere.unread[0]
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://deb.debian.org/debian", "https://deb.debian.org/debian"),
        ("http://deb.debian.org:80/debian", "https://deb.debian.org/debian"),
        ("https://mirror.example.org:8443/x", "https://mirror.example.org:8443/x"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x"),
        ("http://[::1]/x", "http://[::1]/x"),
        ("http://localhost/x", "http://localhost/x"),
        ("http://[2001:db8::1]/x", "https://[2001:db8::1]/x"),
        ("http://[2001:db8::1]:80/x?y=1", "https://[2001:db8::1]/x?y=1"),
        ("http://127.0.0.1.example.org/x", "https://127.0.0.1.example.org/x"),
    ],
)
def test_who_vouches(url: str, expected: str) -> None:
    assert vouched_for(url, "no signature") == expected


def test_a_port_of_its_own_has_no_https_beside_it() -> None:
    with pytest.raises(GoldenAmiError, match="is not read over http: no signature"):
        vouched_for("http://mirror.example.org:8080/x", "no signature")


# --- keys of an image -------------------------------------------------------------------------------------------------


def host(files: dict[str, str]) -> PackageSources:
    found = sources.read(
        "apt\n" + "".join(f"={path}\n {text.replace(chr(10), chr(10) + ' ')}\n" for path, text in files.items())
    )
    assert found is not None
    return found


def test_the_keys_that_the_sources_name(signers: tuple[Signer, Signer]) -> None:
    """Those of the folder for all are recorded only if a source needs them."""
    keys = [base64.b64encode(one.binary).decode() for one in signers]
    files = {
        "/etc/apt/sources.list": f"deb [arch=amd64 signed-by={KEY}] http://a.example.org/ stable main",
        KEY: keys[0],
        "/etc/apt/trusted.gpg.d/all.gpg": keys[1],
    }
    assert host(files).keyrings == {KEY: keys[0]}
    files["/etc/apt/sources.list"] += "\ndeb [trusted=yes] http://b.example.org/ stable main"
    found = host(files)
    assert found.keyrings.keys() == {KEY, "/etc/apt/trusted.gpg.d/all.gpg"}
    assert [(one.signed_by, one.trusted) for one in found.repositories] == [((KEY,), False), ((), True)]


def test_a_key_that_is_written_in_the_source(archive: Archive, signers: tuple[Signer, Signer]) -> None:
    write(archive, signers[0])
    lines = "".join(f"\n {line or '.'}" for line in signers[0].armored.decode().splitlines())
    text = f"Types: deb\nURIs: {archive.url}\nSuites: stable\nComponents: main\nSigned-By:{lines}\n"
    at = host({"/etc/apt/sources.list.d/x.sources": text})
    found = find(INSTALLED, at, "x86_64", level="all", exclude=(), downloads=Downloads(None), now=NOW)
    assert (found.read, found.signed) == (1, 1)


def test_the_catalog_keeps_keys_once(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    digest = catalog.keep_keyring("a key")
    assert catalog.keep_keyring("a key") == digest == hashlib.sha256(b"a key").hexdigest()
    other = Catalog(tmp_path / "catalog")
    assert other.keyring(digest) == "a key"
    file = tmp_path / "catalog/keyrings" / digest
    file.write_text("another key")
    assert Catalog(tmp_path / "catalog").keyring(digest) is None
    assert other.keyring("../channels") is None


# --- dnf --------------------------------------------------------------------------------------------------------------


def test_a_metalink_vouches_for_the_index(archive: Archive) -> None:
    archive.repository("baseos", ("bash", "9-1"))
    repomd = hashlib.sha256((archive.root / "baseos/repodata/repomd.xml").read_bytes()).hexdigest()
    at = PackageSources("dnf", (PackageRepository("baseos", (), mirrors=f"{archive.url}/metalink"),))

    def look() -> Found:
        installed = (Package("bash", "5-1", "x86_64"),)
        return find(installed, at, "x86_64", level="all", exclude=(), downloads=Downloads(None), now=NOW)

    for checksum, count in ((repomd, 1), ("0" * 64, 0)):
        archive.write(
            "metalink",
            f'<metalink xmlns="x"><file name="repomd.xml"><verification><hash type="md5">0</hash><hash type="sha256">'
            f"{checksum}</hash></verification><resources><url>{archive.url}/baseos/repodata/repomd.xml</url></resources>"
            f"</file></metalink>".encode(),
        )
        assert len(look().updates) == count
    assert "has none of the checksums" in look().unread[0]
