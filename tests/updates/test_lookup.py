"""What apt and dnf would install now, by the indices of repositories on loopback."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from goldenami.model import Package, PackagePin, PackageRepository, PackageSources
from goldenami.provision.facts import SOURCES
from goldenami.updates import fetch, sources
from goldenami.updates.fetch import Downloads, Memory, unpacked
from goldenami.updates.lookup import Found, find
from tests.updates.archives import Archive

NOW = datetime(2026, 11, 24, tzinfo=UTC)
APT = (
    Package("openssl", "3.0.15-1~deb12u1", "amd64"),
    Package("bash", "5.2.15-2+b7", "amd64"),
    Package("tzdata", "2025b-0+deb12u1", "all"),
)
DNF = (
    Package("openssl", "1:3.0.7-27.el9", "x86_64"),
    Package("bash", "5.1.8-9.el9", "x86_64"),
    Package("kernel", "5.14.0-503.el9", "x86_64"),
    Package("kernel", "5.14.0-427.el9", "x86_64"),
)


def look(packages: tuple[Package, ...], at: PackageSources, cache: Path | None = None, **options: Any) -> Found:
    given = {"level": "all", "exclude": (), "downloads": Downloads(cache), "now": NOW, **options}
    return find(packages, at, "x86_64", **given)


def names(found: Found) -> list[str]:
    return [f"{u.name} {u.after}" for u in found.updates]


# --- apt --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def debian(archive: Archive) -> Archive:
    archive.suite("bookworm", ("openssl", "3.0.15-1~deb12u1"), ("bash", "5.2.15-2+b7"), ("nginx", "1.22"))
    archive.suite("bookworm-security")
    return archive


def test_a_security_update(debian: Archive) -> None:
    at = debian.apt("bookworm", "bookworm-security")
    assert look(APT, at).updates == ()
    debian.suite("bookworm-security", ("openssl", "3.0.16-1~deb12u1"), ("nginx", "1.24"))
    for level in ("all", "security"):
        (update,) = look(APT, at, level=level).updates
        assert (update.name, update.before, update.after) == ("openssl", "3.0.15-1~deb12u1", "3.0.16-1~deb12u1")
        assert (update.repository, update.security) == ("127.0.0.1 bookworm-security", True)


def test_an_update_of_the_main_suite_is_none_for_the_level_security(debian: Archive) -> None:
    debian.suite("bookworm", ("openssl", "3.0.16-1~deb12u1"))
    debian.requests.clear()
    at = debian.apt("bookworm", "bookworm-security")
    assert look(APT, at, level="security").updates == ()
    assert not [path for path, _ in debian.requests if path.startswith("/dists/bookworm/main")]
    assert names(look(APT, at)) == ["openssl 3.0.16-1~deb12u1"]


def test_what_is_excluded_or_held_is_left_out(debian: Archive) -> None:
    debian.suite("bookworm-security", ("openssl", "3.0.16"), ("bash", "5.3"))
    at = debian.apt("bookworm-security")
    assert names(look(APT, at, exclude=("open*",))) == ["bash 5.3"]
    assert names(look(APT, replace(at, held=("bash",)))) == ["openssl 3.0.16"]


def test_packages_of_all_architectures_and_foreign_ones(debian: Archive) -> None:
    debian.suite("bookworm", ("tzdata", "2025c"), architecture="all")
    # Packages for every architecture are in the index of each.
    packages = (debian.root / "dists/bookworm/main/binary-all/Packages.xz").read_bytes()
    debian.write("dists/bookworm/main/binary-amd64/Packages.xz", packages)
    release = debian.root / "dists/bookworm/InRelease"
    release.write_text(release.read_text().replace("binary-all", "binary-amd64"))
    foreign = (*APT, Package("libc6", "2.36", "i386"))
    assert names(look(foreign, debian.apt("bookworm"))) == ["tzdata 2025c"]


@pytest.mark.parametrize(
    ("fields", "pins", "expected"),
    [
        ("", (), ["bash 9"]),
        ("NotAutomatic: yes\n", (), []),
        ("NotAutomatic: yes\nButAutomaticUpgrades: yes\n", (), []),
        ("", (PackagePin(("*",), "release n=extra", -1),), []),
        ("", (PackagePin(("*",), 'origin "127.0.0.1"', 400),), ["bash 9"]),
        ("", (PackagePin(("*",), "release n=extra", 50),), []),
        ("", (PackagePin(("*",), "release n=extra", -1), PackagePin(("ba*",), "release a=extra", 500)), ["bash 9"]),
        ("", (PackagePin(("bash",), "version 5.2*", 900),), []),
    ],
)
def test_priorities(debian: Archive, fields: str, pins: tuple[PackagePin, ...], expected: list[str]) -> None:
    debian.suite("extra", ("bash", "9"), fields=fields)
    assert names(look(APT, replace(debian.apt("bookworm", "extra"), pins=pins))) == expected


def test_an_older_version_is_no_update_but_with_a_pin_over_1000(debian: Archive) -> None:
    debian.suite("bookworm", ("bash", "5.1"))
    at = debian.apt("bookworm")
    assert names(look(APT, at)) == []
    assert names(look(APT, replace(at, pins=(PackagePin(("bash",), "release n=bookworm", 1001),)))) == ["bash 5.1"]


def test_a_phased_update_is_none_until_every_host_installs_it(debian: Archive) -> None:
    debian.suite("bookworm", ("bash", "9"), extra="Phased-Update-Percentage: 30\n")
    assert names(look(APT, debian.apt("bookworm"))) == []
    debian.suite("bookworm", ("bash", "9"), extra="Phased-Update-Percentage: 100\n")
    assert names(look(APT, debian.apt("bookworm"))) == ["bash 9"]


# --- dnf --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rocky(archive: Archive) -> Archive:
    archive.repository("baseos", ("openssl", "1:3.0.7-27.el9"), ("bash", "5.1.8-9.el9"), ("kernel", "5.14.0-427.el9"))
    archive.repository("extras")
    return archive


def test_updates_and_their_advisories(rocky: Archive) -> None:
    at = rocky.dnf("baseos", "extras")
    assert look(DNF, at).updates == ()
    new = ("openssl", "1:3.0.7-28.el9")
    rocky.repository(
        "baseos",
        new,
        ("bash", "5.1.8-10.el9"),
        ("httpd", "2.4-1"),
        advisories={new: ("RHSA-2026:1", "security"), ("bash", "5.1.8-10.el9"): ("RHBA-2026:2", "bugfix")},
    )
    bash, openssl = look(DNF, at).updates
    assert (openssl.after, openssl.advisories, openssl.security) == ("1:3.0.7-28.el9", ("RHSA-2026:1",), True)
    assert (bash.repository, bash.advisories, bash.security) == ("baseos", ("RHBA-2026:2",), False)
    assert names(look(DNF, at, level="security")) == ["openssl 1:3.0.7-28.el9"]


def test_the_newest_kernel_counts_and_modules_are_apart(rocky: Archive) -> None:
    rocky.repository("extras", ("kernel", "5.14.0-502.el9"), ("bash", "9-1.module+el9"))
    assert look(DNF, rocky.dnf("baseos", "extras")).updates == ()


def test_the_repository_with_the_lowest_priority_number_wins(rocky: Archive) -> None:
    rocky.repository("extras", ("bash", "9-1"))
    first, second = rocky.dnf("baseos", "extras").repositories
    for changes, expected in (
        ({}, ["bash 9-1"]),
        ({"priority": 200}, []),
        ({"only": ("zsh",)}, []),
        ({"exclude": ("ba*",)}, []),
    ):
        assert names(look(DNF, PackageSources("dnf", (first, replace(second, **changes))))) == expected


@pytest.mark.parametrize("form", ["list", "metalink"])
def test_mirrors(rocky: Archive, form: str) -> None:
    rocky.repository("extras", ("bash", "9-1"))
    url = f"{rocky.url}/extras"
    text = f"# mirrors\n{rocky.url}/gone\n{url}\n"
    if form == "metalink":
        urls = f'<url protocol="http">{url}/repodata/repomd.xml</url>'
        text = f'<metalink xmlns="x"><resources>{urls}</resources></metalink>'
    rocky.write("mirrors", text.encode())
    at = PackageSources("dnf", (PackageRepository("extras", (), mirrors=f"{rocky.url}/mirrors"),))
    assert names(look(DNF, at)) == ["bash 9-1"]


# --- requests ---------------------------------------------------------------------------------------------------------


def test_nothing_is_downloaded_twice(debian: Archive, tmp_path: Path) -> None:
    cache, at = tmp_path / "cache", debian.apt("bookworm")
    debian.suite("bookworm", ("bash", "9"))
    debian.an_hour_passes()
    first = look(APT, at, cache)
    debian.requests.clear()
    assert look(APT, at, cache) == first
    assert debian.requests == [("/dists/bookworm/InRelease", 304)]
    for file in cache.iterdir():  # damaged
        file.write_bytes(b"x")
    assert look(APT, at, cache) == first


def test_a_file_that_may_change_in_the_same_second_is_asked_for_again(debian: Archive, tmp_path: Path) -> None:
    cache, at = tmp_path / "cache", debian.apt("bookworm")
    assert names(look(APT, at, cache)) == []
    debian.suite("bookworm", ("bash", "9"))
    assert names(look(APT, at, cache)) == ["bash 9"]


def test_the_cache_is_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch.cache_directory()
    assert folder == tmp_path / "cache/goldenami/updates"
    assert folder.stat().st_mode & 0o777 == 0o700
    for number in range(4):
        (folder / str(number)).write_bytes(b"x" * 10)
        os.utime(folder / str(number), (time.time() - number, time.time() - number))
    monkeypatch.setattr(fetch, "_MOST_KEPT", 25)
    Downloads(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["0", "1"]
    folder.chmod(0o777)
    assert fetch.cache_directory() is None


def test_lookups_of_one_process_share_what_they_read(debian: Archive) -> None:
    debian.suite("bookworm", ("bash", "9"))
    memory = Memory()
    first = look(APT, debian.apt("bookworm"), downloads=Downloads(None, memory))
    debian.requests.clear()
    assert look(APT[:2], debian.apt("bookworm"), downloads=Downloads(None, memory)) == first
    assert debian.requests == []


def test_dnf_downloads_nothing_twice(rocky: Archive, tmp_path: Path) -> None:
    rocky.repository("baseos", ("bash", "9-1"))
    rocky.an_hour_passes()
    first = look(DNF, rocky.dnf("baseos"), tmp_path / "cache")
    rocky.requests.clear()
    assert look(DNF, rocky.dnf("baseos"), tmp_path / "cache") == first
    assert rocky.requests == [("/baseos/repodata/repomd.xml", 304)]


def test_an_index_by_its_hash(debian: Archive) -> None:
    debian.suite("bookworm", ("bash", "9"), fields="Acquire-By-Hash: yes\n")
    packages = debian.root / "dists/bookworm/main/binary-amd64/Packages.xz"
    checksum = (debian.root / "dists/bookworm/InRelease").read_text().split("SHA256:\n ")[1].split()[0]
    debian.write(f"dists/bookworm/main/binary-amd64/by-hash/SHA256/{checksum}", packages.read_bytes())
    packages.unlink()
    assert names(look(APT, debian.apt("bookworm"))) == ["bash 9"]


# What `zstd` makes of the text of the next test.
ZSTD = b64decode(
    "KLUv/QRYtAAAcFBhY2thZ2U6IGJhc2gKAQDv/5FPJUwAAAhhAQD8/zkQAkwAAAggAQD8/zkQAkwAAAhoAQD8/zkQAkwAAAhjAQD8/zkQ"
    "AkwAAAhlAQD8/zkQAkwAAAhhAQD8/zkQAkwAAAhQAQD8/zkQAkwAAAhhAQD8/zkQAkwAAAggAQD8/zkQAk0AAAhoAQC8XDkQAnlbME4="
)


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst", ""])
def test_compressions(packing: str) -> None:
    text = b"Package: bash\n" * 100_000
    make: Callable[[bytes], bytes]
    match packing:
        case ".gz":
            make = gzip.compress
        case ".bz2":
            make = bz2.compress
        case ".xz":
            make = lzma.compress
        case _:
            make = bytes
    packed = ZSTD if packing == ".zst" else make(text)
    assert b"".join(unpacked(BytesIO(packed), packing)) == text
    with pytest.raises((ValueError, EOFError, OSError, lzma.LZMAError)) if packing else nullcontext():
        b"".join(unpacked(BytesIO(packed[: len(packed) // 2]), packing))


# --- indices of a stranger --------------------------------------------------------------------------------------------


def test_a_repository_that_cannot_be_read_is_told_and_stops_no_other(debian: Archive) -> None:
    debian.suite("bookworm-security", ("openssl", "3.0.16"))
    at = debian.apt("bookworm-security", "gone")
    closed = PackageRepository("x", ("http://127.0.0.1:9/debian",), "", "closed", ("main",))
    local = PackageRepository("x", ("file:///etc",), "", "local", ("main",))
    found = look(APT, replace(at, repositories=(*at.repositories, closed, local)))
    assert names(found) == ["openssl 3.0.16"]
    assert found.read == 1
    gone, refused, file = found.unread
    assert "/dists/gone/Release does not exist" in gone
    assert "refused" in refused
    assert "expected http or https" in file


@pytest.mark.parametrize("case", ["expired", "changed", "no checksums", "bomb", "not xz"])
def test_indices_that_are_refused(debian: Archive, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = debian.root / "dists/bookworm/main/binary-amd64/Packages.xz"
    fields = "Valid-Until: Mon, 23 Nov 2026 00:00:00 UTC\n" if case == "expired" else ""
    debian.suite("bookworm", ("bash", "9"), fields=fields)
    release = debian.root / "dists/bookworm/InRelease"
    if case == "changed":
        packages.write_bytes(packages.read_bytes()[:-4] + b"abcd")
    elif case == "no checksums":
        release.write_text("Origin: Debian\n")
    elif case == "bomb":
        monkeypatch.setattr(fetch, "UNPACKED", 50)
    elif case == "not xz":
        text = release.read_text().replace("Packages.xz", "Packages.gz")
        release.write_text(text)
        packages.rename(packages.with_suffix(".gz"))
    expected = {
        "expired": "out of date since",
        "changed": "the repository may be changing now",
        "no checksums": "lists no index",
        "bomb": "more than 50 bytes",
        "not xz": "cannot be read: Not a gzipped file",
    }
    found = look(APT, debian.apt("bookworm"))
    assert (found.updates, found.read) == ((), 0)
    assert expected[case] in found.unread[0]


ENTITIES = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><repomd><data>&b;</data></repomd>'
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ENTITIES, "it has a document type"),
        ("<repomd>", "it is not XML"),
        ("<a>" * 100, "nested more than"),
        ("<repomd/>", "lists no packages"),
        (f"<repomd>{'x' * (2 << 20)}</repomd>", "more than 1048576 characters"),
    ],
)
def test_markup_that_is_refused(rocky: Archive, text: str, expected: str) -> None:
    rocky.write("baseos/repodata/repomd.xml", text.encode())
    found = look(DNF, rocky.dnf("baseos"))
    assert expected in found.unread[0]


def test_a_lookup_has_a_limit_of_time(debian: Archive) -> None:
    found = look(APT, debian.apt("bookworm"), downloads=Downloads(None, seconds=-1))
    assert "took more than" in found.unread[0]


# --- the configuration of an image ------------------------------------------------------------------------------------


def test_the_sources_of_apt() -> None:
    text = """apt
=/etc/apt/sources.list
 # deb http://old.example/debian bookworm main
 deb [arch=amd64 signed-by=/k.gpg] https://me:secret@apt.example/x stable main extra # mine
 deb-src http://deb.debian.org/debian bookworm main
=/etc/apt/sources.list.d/debian.sources
 Types: deb deb-src
 URIs: mirror+file:///etc/apt/mirrors/debian.list
 Suites: bookworm bookworm-updates
 Components: main
 Signed-By:
  -----BEGIN PGP PUBLIC KEY BLOCK-----
  .
  abc
 #
=/etc/apt/sources.list.d/off.sources
 Types: deb
 Enabled: no
 URIs: http://off.example
 Suites: x
=/etc/apt/mirrors/debian.list
 https://cdn-aws.deb.debian.org/debian
=/etc/apt/preferences.d/x
 Package: *
 Pin: origin "apt.example"
 Pin-Priority: -1
=held
 bash
"""
    found = sources.read(text)
    assert found is not None
    listed = [(r.uris, r.suite, r.components, r.architectures) for r in found.repositories]
    assert listed == [
        (("https://apt.example/x",), "stable", ("main", "extra"), ("amd64",)),
        (("https://cdn-aws.deb.debian.org/debian",), "bookworm", ("main",), ()),
        (("https://cdn-aws.deb.debian.org/debian",), "bookworm-updates", ("main",), ()),
    ]
    assert found.held == ("bash",)
    assert found.pins == (PackagePin(("*",), 'origin "apt.example"', -1),)


def test_the_sources_of_dnf() -> None:
    text = """dnf
=repositories
 {"id": "a", "baseurl": ["https://me:secret@x.example/9"], "mirrors": null, "priority": 9, "only": [], "exclude": ["y"]}
 {"id": "b", "baseurl": [], "mirrors": "https://x.example/l?a=b", "priority": 8, "only": ["z"], "exclude": []}
=held
 # Added lock on Sun Nov 1
 bash-0:5.1.8-9.el9.*
"""
    found = sources.read(text)
    assert found == PackageSources(
        "dnf",
        (
            PackageRepository("a", ("https://x.example/9",), priority=9, exclude=("y",)),
            PackageRepository("b", (), "https://x.example/l?a=b", priority=8, only=("z",)),
        ),
        ("bash",),
    )


@pytest.mark.parametrize("text", ["", "pacman\n=x\n y", "dnf\n=repositories\n {", 'dnf\n=repositories\n {"id": 1}'])
def test_unknown_sources(text: str) -> None:
    assert sources.read(text) is None


def test_the_script_asks_each_manager() -> None:
    assert "echo apt\n" in SOURCES.script.text
    assert "echo dnf\n" in SOURCES.script.text


def test_the_release_latest_replaces_the_one_of_the_image() -> None:
    base = "https://cdn.amazonlinux.com/al2023/core"
    one = PackageRepository(
        "amazonlinux", (f"{base}/guids/2023/x86_64/",), f"{base}/mirrors/2023.6.20241111/x86_64/mirror.list"
    )
    [moved] = sources.latest(PackageSources("dnf", (one,))).repositories
    assert moved == replace(one, mirrors=f"{base}/mirrors/latest/x86_64/mirror.list")
