"""Packages and repositories on real hosts, of both families, from signed repositories that the tests make.

One Debian host is first what it is. Then, for dnf, its dpkg database is put aside: a host with rpm's alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from goldenami import ssh
from goldenami.model import SshEndpoint
from goldenami.provision import Payload
from goldenami.reading import ANYWHERE
from tests.provision.archives import AptSuite, Key, Served, build_rpm, publish_rpms, served
from tests.provision.examples import bind
from tests.provision.hosts import Host

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def host(launch: Callable[[str], SshEndpoint]) -> Iterator[Host]:
    """With what the tests need from Debian; after that it has only the tests' own repositories: apt reads them fast."""
    with ssh.connect(launch("debian-12"), timeout=60) as connection:
        host = Host(connection)
        host.run(bind("package", name=["dnf", "rpm", "dnf-plugins-core"], recommends=False))
        host.sh("rm -f /etc/apt/sources.list; mv /etc/apt/sources.list.d /etc/apt/aside.d")
        host.sh("mkdir /etc/apt/sources.list.d; rm -f /etc/yum.repos.d/*; apt-get -q update >/dev/null")
        yield host


@pytest.fixture(scope="module")
def web(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("web"), host.connection.endpoint.address) as server:
        yield server


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key.generate(tmp_path_factory.mktemp("key") / "gpg")


# --- apt --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def suite(web: Served, key: Key) -> AptSuite:
    suite = AptSuite(web.folder / "apt", key, "stable")
    for version in ("1.0-1", "1.5-1", "2.0-1"):
        suite.add("gold", version, {"/usr/bin/gold": "#!/bin/sh\n", "/etc/gold.conf": f"{version}\n"})
    suite.add("gold-one", "1", Task="golden")
    suite.add("gold-two", "1", Task="golden")
    suite.publish()
    (web.folder / "key.asc").write_text(key.armored)
    return suite


@pytest.fixture(scope="module")
def apt(host: Host, web: Served, suite: AptSuite, key: Key) -> dict[str, Any]:
    """The repository's fields, once it is there."""
    fields: dict[str, Any] = {
        "name": "golden",
        "uris": [f"{web.url}/apt"],
        "suites": ["stable"],
        "components": ["main"],
        "key_url": f"{web.url}/key.asc",
        "fingerprint": key.fingerprint,
    }
    assert len(host.changes(bind("repository", **fields))) == 1
    return fields


def installed(host: Host, name: str) -> str:
    return host.sh(f"dpkg-query -W -f '${{db:Status-Abbrev}}${{Version}}' {name} 2>/dev/null || :")


def test_a_key_from_a_url_is_used_if_its_fingerprint_is_right(
    host: Host, apt: dict[str, Any], web: Served, key: Key
) -> None:
    assert web.requests.count("/key.asc") == 1, "the second run must not fetch it again"
    assert host.sh("cat /etc/apt/sources.list.d/golden.sources").splitlines() == [
        "Types: deb",
        f"URIs: {web.url}/apt",
        "Suites: stable",
        "Components: main",
        "Signed-By: /etc/apt/keyrings/golden.gpg",
    ]
    wrong = {**apt, "name": "wrong", "fingerprint": "0" * 40}
    assert f"holds the key {key.fingerprint}, and not {'0' * 40}" in host.fails(bind("repository", **wrong)).output
    assert host.sh("ls /etc/apt/keyrings/wrong* /etc/apt/sources.list.d/wrong* 2>/dev/null || :") == ""
    file = {**wrong, "key_url": None, "key_src": "key.asc"}
    refused = bind("repository", payload=Payload.of(key.armored.encode()), **file)
    assert f"holds the key {key.fingerprint}" in host.fails(refused).output


def test_a_range_takes_the_newest_that_fits(host: Host, apt: dict[str, Any]) -> None:
    ranged = bind("package", name="gold", version=">=1.2,<2")
    host.changes(ranged)
    assert installed(host, "gold") == "ii 1.5-1"
    assert host.changes(bind("package", name="gold", version="<1.2")) == ["1.5-1 is installed"]
    assert installed(host, "gold") == "ii 1.0-1"
    assert host.changes(bind("package", name="gold", version=">1.5-1")) == ["1.0-1 is installed"]
    assert installed(host, "gold") == "ii 2.0-1"
    assert host.changes(bind("package", name="gold", version="=1.0-1")) == ["2.0-1 is installed"]
    error = host.fails(bind("package", name="gold", version=">=1.6,<2.0"))
    assert "the repositories offer 2.0-1, 1.5-1, 1.0-1 of gold, and none that was asked for" in error.output
    assert "Change `version`" in (error.hint or "")
    assert installed(host, "gold") == "ii 1.0-1"


def test_a_held_package_stays_when_others_are_upgraded(host: Host, apt: dict[str, Any]) -> None:
    host.changes(bind("package", name="gold", version="=1.5-1", hold=True))
    host.sh("apt-get -qy upgrade >/dev/null")
    assert installed(host, "gold") == "hi 1.5-1"
    host.changes(bind("package", name="gold", hold=False), bind("package", name="gold", state="latest"))
    assert installed(host, "gold") == "ii 2.0-1"


def test_absent_keeps_the_configuration_and_purge_does_not(host: Host, apt: dict[str, Any]) -> None:
    host.changes(bind("package", name="gold"))
    host.changes(bind("package", name=["gold", "no-such-package"], state="absent"))
    assert installed(host, "gold").startswith("rc ")
    assert host.sh("ls /etc/gold.conf") == "/etc/gold.conf"
    assert host.changes(bind("package", name="gold", state="purge")) == ["its configuration is there"]
    assert host.sh("ls /etc/gold.conf 2>/dev/null || :") == ""


@pytest.mark.nightly
def test_a_task_is_a_group(host: Host, apt: dict[str, Any]) -> None:
    host.changes(bind("package", name=["@golden", "gold"]))
    assert installed(host, "gold-one")
    assert installed(host, "gold-two")
    host.sh("apt-get -qy remove gold-two >/dev/null")
    assert host.changes(bind("package", name="@golden")) == ["the group golden is not complete"]
    host.changes(bind("package", name="@golden", state="absent"))
    assert installed(host, "gold-one") == ""


def test_nothing_is_asked_of_apt_where_nothing_is_to_do(host: Host, apt: dict[str, Any]) -> None:
    operations = [
        bind("repository", **apt),
        bind("package", name=["gold", "bash"]),
        bind("package", name="gold", version=">=1,<3"),
    ]
    host.run(*operations)
    host.sh("mv /usr/bin/apt-get /usr/bin/apt-get.real; printf '#!/bin/sh\\nexit 9\\n' >/usr/bin/apt-get")
    host.sh("chmod 755 /usr/bin/apt-get")
    try:
        assert host.run(*operations).changed == 0
    finally:
        host.sh("mv /usr/bin/apt-get.real /usr/bin/apt-get")


def test_priority_and_only_decide_what_a_repository_gives(
    host: Host, apt: dict[str, Any], web: Served, key: Key
) -> None:
    second = AptSuite(web.folder / "second", key, "stable", label="Second")
    second.add("gold", "9.0")
    second.add("gold-extra", "9.0")
    second.publish()
    address = host.connection.endpoint.address
    with served(web.folder, address) as other:  # pinning by host cannot tell two ports apart: so by its label
        fields = {**apt, "name": "second", "uris": [f"{other.url}/second"], "pin": "release l=Second"}
        host.changes(bind("package", name="gold", version="=2.0-1"))
        host.changes(bind("repository", **fields, only=["gold-*"]), bind("package", name="gold-extra"))
        host.changes(bind("package", name="gold", state="latest"))
        assert installed(host, "gold") == "ii 2.0-1"
        host.changes(bind("repository", **fields, priority=400), bind("package", name="gold", state="latest"))
        assert installed(host, "gold") == "ii 2.0-1"
        host.changes(bind("repository", **fields), bind("package", name="gold", state="latest"))
        assert installed(host, "gold") == "ii 9.0"
        host.changes(bind("repository", name="second", state="absent"))
        assert host.sh("ls /etc/apt/*/second* 2>/dev/null || :") == ""


def test_an_index_that_another_key_signed_is_refused(
    host: Host, apt: dict[str, Any], web: Served, tmp_path: Path
) -> None:
    forged = AptSuite(web.folder / "forged", Key.generate(tmp_path / "gpg", "Forger"), "stable")
    forged.add("forged", "1")
    forged.publish()
    host.run(bind("repository", **{**apt, "name": "forged", "uris": [f"{web.url}/forged"]}))
    error = host.fails(bind("package", name="forged"))
    assert "check `key`" in (error.hint or "")
    host.changes(bind("repository", name="forged", state="absent"))


def test_a_package_from_a_url(host: Host, web: Served, suite: AptSuite) -> None:
    built = suite.add("gold-file", "3", Depends="gold")
    fields: dict[str, Any] = {"url": f"{web.url}/apt/pool/{built.name}", "sha256": Payload.read(built, ANYWHERE).sha256}
    host.changes(bind("package", name="gold-file", **fields, version="3"))
    assert installed(host, "gold-file") == "ii 3"
    other = bind("package", name="gold-other", **fields)
    assert "the file holds the package gold-file, and not gold-other" in host.fails(other).output
    wrong = bind("package", name="gold-wrong", url=fields["url"], sha256="0" * 64)
    assert "as in the recipe" in host.fails(wrong).output


def test_a_repository_of_the_other_family_is_refused(host: Host) -> None:
    error = host.fails(bind("repository", name="x", uris=["http://x.test"], trusted=True))
    assert "for hosts with dnf, and this host has the package manager apt" in error.output


# --- dnf --------------------------------------------------------------------------------------------------------------


@dataclass
class Rpm:
    host: Host
    web: Served
    folder: Path
    fields: dict[str, Any]
    key: Key

    def installed(self, name: str) -> str:
        return self.host.sh(f"rpm -q --qf '%{{VERSION}}-%{{RELEASE}}' {name} || :")


@pytest.fixture(scope="module")
def dnf(host: Host, web: Served, key: Key) -> Rpm:
    """The same host, whose system is rpm's now. Comes after the tests of apt."""
    missing = [p for p in ("rpmbuild", "createrepo_c") if shutil.which(p) is None]
    if missing:
        pytest.skip(f"NOT PROVEN: {', '.join(missing)} not installed, so no repository of dnf can be made")
    folder = web.folder / "rpm"
    folder.mkdir()
    for version in ("1.0", "1.5", "2.0"):
        build_rpm(folder, "silver", version, key=key)
    for name in ("silver-one", "silver-two"):
        build_rpm(folder, name, "1", key=key)
    publish_rpms(folder, {"silvers": ["silver-one", "silver-two"]})
    # As on systems that rpm makes; Debian has it in the home directory.
    host.sh("mkdir -p /etc/rpm && echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros && rpm --initdb")
    host.sh("mv /var/lib/dpkg /var/lib/dpkg.aside; printf '[main]\\nenabled=0\\n' >/etc/dnf/plugins/local.conf")
    fields: dict[str, Any] = {
        "name": "silver",
        "uris": [f"{web.url}/rpm"],
        "key": key.armored,
        "fingerprint": key.fingerprint,
    }
    assert len(host.changes(bind("repository", **fields))) == 1
    return Rpm(host, web, folder, fields, key)


def test_dnf_installs_what_a_trusted_key_signed(dnf: Rpm, tmp_path: Path) -> None:
    assert "gpgcheck=1\n" in dnf.host.sh("cat /etc/yum.repos.d/silver.repo")
    dnf.host.changes(bind("package", name="silver-one"), bind("package", name=["silver", "silver-two"]))
    assert (dnf.installed("silver"), dnf.installed("silver-one")) == ("2.0-1", "1-1")
    unsigned = dnf.web.folder / "unsigned"
    build_rpm(unsigned, "unsigned", "1")
    publish_rpms(unsigned)
    dnf.host.changes(bind("repository", **{**dnf.fields, "name": "unsigned", "uris": [f"{dnf.web.url}/unsigned"]}))
    error = dnf.host.fails(bind("package", name="unsigned"))
    assert "check `key`" in (error.hint or "")
    dnf.host.changes(bind("repository", name="unsigned", state="absent"))


@pytest.mark.nightly
def test_dnf_packages_in_a_row_go_together_and_the_wrong_one_is_blamed(dnf: Rpm) -> None:
    dnf.host.changes(bind("package", name=["silver", "silver-one", "silver-two"], state="absent"))
    result = dnf.host.run(bind("package", name="silver-one"), bind("package", name="silver-two"))
    assert [o.status for o in result.operations] == ["changed", "changed"]
    assert sum("Installed:" in line for line in dnf.host.output()) == 1
    dnf.host.run(bind("package", name="silver-one", state="absent"))
    with pytest.raises(Exception, match="no-such-package") as caught:
        dnf.host.run(bind("package", name="silver-one"), bind("package", at=2, name="no-such-package"))
    assert "check the name" in caught.value.hint  # type: ignore[attr-defined]
    assert dnf.installed("silver-one") == "1-1"


@pytest.mark.nightly
def test_dnf_takes_ranges_holds_and_the_latest(dnf: Rpm) -> None:
    host = dnf.host
    host.changes(bind("package", name="silver", version=">=1.2,<2"))
    assert dnf.installed("silver") == "1.5-1"
    assert host.changes(bind("package", name="silver", version="=1.0")) == ["1.5-1 is installed"]
    assert dnf.installed("silver") == "1.0-1"
    error = host.fails(bind("package", name="silver", version=">2.0"))
    assert "the repositories offer 2.0-1, 1.5-1, 1.0-1 of silver" in error.output
    host.changes(bind("package", name="silver", version="=1.5-1", hold=True))
    host.sh("dnf -qy upgrade")
    assert dnf.installed("silver") == "1.5-1"
    host.changes(bind("package", name="silver", hold=False), bind("package", name="silver", state="latest"))
    assert dnf.installed("silver") == "2.0-1"
    host.changes(bind("package", name="silver", state="purge"))
    assert "not installed" in dnf.installed("silver")


@pytest.mark.nightly
def test_dnf_groups(dnf: Rpm) -> None:
    dnf.host.run(bind("package", name=["silver-one", "silver-two"], state="absent"))
    dnf.host.changes(bind("package", name="@silvers"))
    assert dnf.installed("silver-two") == "1-1"
    dnf.host.changes(bind("package", name="@silvers", state="absent"))
    assert "not installed" in dnf.installed("silver-one")


def test_dnf_is_not_asked_where_nothing_is_to_do(dnf: Rpm) -> None:
    operations = [bind("repository", **dnf.fields), bind("package", name="silver", version=">=1,<3")]
    dnf.host.run(*operations)
    dnf.host.sh(
        "mv /usr/bin/dnf /usr/bin/dnf.real; printf '#!/bin/sh\\nexit 9\\n' >/usr/bin/dnf; chmod 755 /usr/bin/dnf"
    )
    try:
        assert dnf.host.run(*operations).changed == 0
    finally:
        dnf.host.sh("mv /usr/bin/dnf.real /usr/bin/dnf")


@pytest.mark.nightly
def test_dnf_takes_from_a_repository_only_what_it_may(dnf: Rpm) -> None:
    second = dnf.web.folder / "second-rpm"
    build_rpm(second, "silver", "9", key=dnf.key)
    build_rpm(second, "silver-more", "9", key=dnf.key)
    publish_rpms(second)
    fields = {**dnf.fields, "name": "second", "uris": [f"{dnf.web.url}/second-rpm"]}
    host = dnf.host
    host.changes(bind("repository", **fields, only=["silver-*"]), bind("package", name=["silver", "silver-more"]))
    assert (dnf.installed("silver"), dnf.installed("silver-more")) == ("2.0-1", "9-1")
    host.changes(bind("repository", **fields, priority=99), bind("package", name="silver", state="latest"))
    assert dnf.installed("silver") == "9-1"
    host.changes(bind("package", name="silver", state="absent"))
    host.changes(bind("repository", **dnf.fields, priority=10), bind("package", name="silver"))
    assert dnf.installed("silver") == "2.0-1", "the repository that ranks higher has it, though older"
    host.changes(bind("repository", name="second", state="absent"))


@pytest.mark.nightly
def test_dnf_installs_a_file_from_a_url(dnf: Rpm) -> None:
    built = build_rpm(dnf.web.folder / "files", "silver-file", "3")
    url = f"{dnf.web.url}/files/noarch/{built.name}"
    dnf.host.changes(bind("package", name="silver-file", url=url, sha256=Payload.read(built, ANYWHERE).sha256))
    assert dnf.installed("silver-file") == "3-1"
