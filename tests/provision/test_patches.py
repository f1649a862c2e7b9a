"""Patches on a real host, of both families, from archives of two days that the tests make."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from goldenami import provision, ssh
from goldenami.model import Mark, SshEndpoint
from goldenami.provision import (
    BoundOperation,
    BuildNetwork,
    PatchSpec,
    Stage,
    StageResult,
    boot_command,
    closing_stage,
    patch_stage,
    run_stage,
)
from goldenami.provision.boot import Reboot
from tests.provision.archives import AptSuite, Key, Served, build_deb, build_rpm, publish_rpms, served
from tests.provision.examples import bind
from tests.provision.hosts import Host

root = pytest.mark.root


# --- what a recipe may say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"date": "yesterday"}, "expected a day"),
        ({"mirror": {"uri": "http://x.test/{date}"}}, "mirror needs date"),
        ({"date": "2026-11-01", "mirror": {"uri": "http://x.test/"}}, "as a placeholder for the day"),
        ({"date": "2026-11-01", "mirror": {"uri": "http://x.test/{date}", "key": "x"}}, "not an OpenPGP public key"),
        ({"date": "2026-11-01", "releasever": "2023.1"}, "remove one of them"),
        ({"releasever": "newest"}, "releasever"),
        ({"unattended": {"at": "3:30"}}, "time of day"),
        ({"unattended": {"exclude": ["a b"]}}, "not the name of a package"),
        ({"unattended": True}, "unattended"),
    ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PatchSpec.model_validate(fields)


def test_the_stages_of_a_plain_recipe_are_no_more_than_before() -> None:
    assert [o.label for o in patch_stage(PatchSpec.model_validate({}), os="debian").operations] == [
        "wait for the end of the boot",
        "updates of all packages",
        "reboot if one is needed",
    ]
    assert closing_stage(PatchSpec.model_validate({}), os="debian").operations == ()


@pytest.mark.parametrize(
    ("spec", "package", "network", "fetched"),
    [
        ({}, False, {}, True),
        ({"level": "none"}, True, {}, True),
        ({"level": "none"}, False, {}, False),
        ({"date": "2026-11-01"}, True, {}, False),
        ({}, True, {"mirrors": {"https://deb.example": "https://mirror.example"}}, False),
        ({}, True, {"http": "http://proxy.example:3128"}, False),
    ],
)
def test_lists_are_fetched_during_the_boot_if_they_are_those_of_the_build(
    spec: dict[str, Any], package: bool, network: dict[str, Any], fetched: bool
) -> None:
    bound = bind("package", name="nginx") if package else bind("command", argv=["true"])
    stages = [Stage("software", (bound,))]
    program = boot_command(stages, PatchSpec.model_validate(spec), os="debian", network=BuildNetwork(**network))
    assert bool(program) == fetched


@pytest.mark.parametrize(
    ("fields", "there", "fetched"),
    [
        ({"name": ["nginx", "curl"]}, "nginx curl", False),
        ({"name": ["nginx", "curl"]}, "nginx", True),
        ({"name": "nginx", "state": "latest"}, "nginx", True),
        ({"name": "nginx", "version": ">=1"}, "nginx", True),
    ],
)
def test_without_patches_lists_are_fetched_only_for_what_is_missing(
    tmp_path: Path, fields: dict[str, Any], there: str, fetched: bool
) -> None:
    stages = [Stage("software", (bind("package", **fields), bind("package", name="telnet", state="absent")))]
    program = boot_command(stages, PatchSpec.model_validate({"level": "none"}), os="debian", network=BuildNetwork())
    code = f"""dpkg-query() {{ case " {there} " in *" $4 "*) echo 'ii ' ;; *) return 1 ;; esac; }}
systemd-run() {{ echo fetched; }}
{program.replace("/run/goldenami", str(tmp_path)).replace("/etc/cloud", str(tmp_path))}"""
    done = subprocess.run(["bash", "-uc", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("fetched\n" if fetched else "", "")


# --- apt --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(launch: Callable[[str], SshEndpoint]) -> Iterator[Host]:
    with ssh.connect(launch("debian-12"), timeout=60) as connection:
        host = Host(connection)
        host.run(
            bind("package", name="unattended-upgrades", recommends=False),
            bind("package", name=["dnf", "rpm", "dnf-plugins-core"], recommends=False),
        )
        yield host


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key.generate(tmp_path_factory.mktemp("key") / "gpg")


@pytest.fixture(scope="module")
def web(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("web"), host.connection.endpoint.address) as server:
        yield server


DAYS = {"2026-10-01": "1.1", "2026-11-01": "1.2"}
NAMES = ("gold", "kept", "safe")


@pytest.fixture(scope="module")
def mirror(host: Host, web: Served, key: Key) -> dict[str, Any]:
    """Archives of two days; the host has the versions of a day before. ``safe`` is in the security archive."""
    for day, version in DAYS.items():
        main = AptSuite(web.folder / day / "main", key, "stable")
        security = AptSuite(web.folder / day / "security", key, "bookworm-security", label="Debian-Security")
        for name in ("gold", "kept", "extra"):
            main.add(name, version)
        security.add("safe", version)
        main.publish(valid_until="Fri, 02 Oct 2020 00:00:00 UTC")  # as the archive of a former day is
        security.publish(valid_until="Fri, 02 Oct 2020 00:00:00 UTC")
    for name in NAMES:
        host.sh(f"cat >/tmp/{name}.deb", build_deb(web.folder / "base", name, "1.0").read_bytes())
    host.sh("dpkg -i /tmp/*.deb >/dev/null")
    return {
        "uri": f"{web.url}/{{date}}/main",
        "security_uri": f"{web.url}/{{date}}/security",
        "suites": ["stable"],
        "key": key.armored,
    }


def spec(mirror: dict[str, Any], **fields: Any) -> PatchSpec:
    return PatchSpec.model_validate({"reboot": "never", "mirror": mirror, **fields})


def versions(host: Host, *names: str) -> dict[str, str]:
    installed = {p.name: p.version for p in provision.packages(host.connection)}
    return {name: installed.get(name, "") for name in names}


def stage(host: Host, what: Stage, **options: Any) -> StageResult:
    host.events.clear()
    return run_stage(host.connection, what, host.events.append, **options)


def sources(host: Host) -> str:
    return host.sh(
        "cd /etc/apt; find sources.list* keyrings goldenami-aside -type f 2>/dev/null | sort | xargs sha256sum"
    )


@root
@pytest.mark.nightly
@pytest.mark.parametrize("way", ["mirror", "proxy"])
def test_packages_come_from_the_network_of_the_build_and_nothing_of_it_stays(
    host: Host, web: Served, key: Key, way: str
) -> None:
    """tests/provision/test_network.py has a short variant without a host."""
    uri = f"http://{way}.example/debian"
    suite = AptSuite(web.folder / way, key, "stable")
    suite.add(f"only-{way}", "1.0")
    suite.publish()
    # A proxy is asked for whole URLs, and this server answers them from a folder of that name.
    (web.folder / f"http:/{way}.example").mkdir(parents=True)
    (web.folder / f"http:/{way}.example/debian").symlink_to(web.folder / way)
    host.sh("cat >/etc/apt/keyrings/network.asc", key.armored.encode())
    host.sh(
        f"echo 'deb [signed-by=/etc/apt/keyrings/network.asc] {uri} stable main' >/etc/apt/sources.list.d/{way}.list"
    )
    before = sources(host)
    mirrors = {uri: f"{web.url}/{way}"} if way == "mirror" else {}
    network = BuildNetwork(mirrors=mirrors) if mirrors else BuildNetwork(http=web.url, direct=(".debian.org",))
    none = PatchSpec.model_validate({"level": "none", "reboot": "never"})
    stages = [
        patch_stage(none, os="debian", mirrors=mirrors),
        Stage("software", (bind("package", name=f"only-{way}"),)),
        closing_stage(none, os="debian", mirrors=mirrors),
    ]
    provision.run_program(host.connection, stages, network=network)
    assert versions(host, f"only-{way}") == {f"only-{way}": "1.0"}
    assert sources(host) == before
    address = web.url.removeprefix("http://")
    assert host.sh(f"grep -rlF {address} /etc /root /var/lib/goldenami-mirrored 2>/dev/null || :") == ""
    host.sh(f"rm /etc/apt/sources.list.d/{way}.list /etc/apt/keyrings/network.asc")


@root
def test_a_build_has_the_packages_of_its_day_and_the_image_has_its_own_archive(
    host: Host, mirror: dict[str, Any]
) -> None:
    before, own = provision.packages(host.connection), sources(host)
    early = spec(mirror, date="2026-10-01", level="security")
    stage(host, patch_stage(early, os="debian"))
    assert versions(host, *NAMES) == {"gold": "1.0", "kept": "1.0", "safe": "1.1"}
    assert "safe: 1.0 -> 1.1" in host.output()

    early = spec(mirror, date="2026-10-01", exclude=["ke*"])
    stage(host, patch_stage(early, os="debian"))
    host.run(bind("package", name="extra"))  # software comes from the same day
    assert versions(host, *NAMES, "extra") == {"gold": "1.1", "kept": "1.0", "safe": "1.1", "extra": "1.1"}
    assert stage(host, patch_stage(early, os="debian")).changed == 0
    assert sources(host) != own

    assert stage(host, closing_stage(early, os="debian")).changed == 1
    assert sources(host) == own
    assert stage(host, closing_stage(early, os="debian")).changed == 0
    host.run(bind("package", name="extra", state="absent"), bind("package", name="kept", state="absent"))

    changes = provision.package_changes(before, provision.packages(host.connection))
    found = {c.name: (c.before, c.after) for c in changes}
    assert found == {"gold": ("1.0", "1.1"), "safe": ("1.0", "1.1"), "kept": ("1.0", None)}


@root
def test_another_day_has_other_packages(host: Host, mirror: dict[str, Any]) -> None:
    late = spec(mirror, date="2026-11-01")
    stage(host, patch_stage(late, os="debian"))
    assert versions(host, "gold", "safe") == {"gold": "1.2", "safe": "1.2"}
    stage(host, closing_stage(late, os="debian"))


@root
def test_an_interrupted_change_of_the_archive_is_carried_on(host: Host, mirror: dict[str, Any]) -> None:
    own = sources(host)
    host.sh("mkdir /etc/apt/goldenami-aside && mv /etc/apt/sources.list.d/debian.sources /etc/apt/goldenami-aside/")
    late = spec(mirror, date="2026-11-01")
    stage(host, patch_stage(late, os="debian"))
    stage(host, closing_stage(late, os="debian"))
    assert sources(host) == own


@root
def test_snapshots_of_the_distribution_are_the_default(host: Host) -> None:
    """Their servers are far away: what apt would ask them for is looked at, and not asked."""
    asked = PatchSpec.model_validate({"date": "2026-11-01", "level": "none", "reboot": "never"})
    dated = patch_stage(asked, os="debian")
    stage(host, dated)
    try:
        uris = host.sh('apt-get update --print-uris | cut -d "\'" -f 2').splitlines()
        text = host.sh("cat /etc/apt/sources.list.d/goldenami-dated.sources") + "\n"
    finally:
        stage(host, closing_stage(PatchSpec.model_validate({"date": "2026-11-01"}), os="debian"))
    base = "https://snapshot.debian.org/archive"
    assert f"{base}/debian/20261101T000000Z/dists/bookworm/InRelease" in uris
    assert f"{base}/debian/20261101T000000Z/dists/bookworm-updates/InRelease" in uris
    assert f"{base}/debian-security/20261101T000000Z/dists/bookworm-security/InRelease" in uris
    assert text.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n") == 2
    assert text.count("Components: main\n") == 2


@root
@pytest.mark.parametrize("level", ["security", "all"])
@pytest.mark.sample(2)
def test_an_instance_upgrades_itself_as_the_recipe_says(
    level: str, host: Host, web: Served, key: Key, mirror: dict[str, Any]
) -> None:
    unattended = {"level": level, "exclude": ["never-*"], "reboot": "if-needed", "at": "03:30"}
    closing = closing_stage(PatchSpec.model_validate({"unattended": unattended}), os="debian")
    stage(host, closing)
    assert stage(host, closing).changed == 0
    # The distribution's archive by its labels, but with newer packages.
    main = AptSuite(web.folder / "live/main", key, "bookworm", label="Debian", origin="Debian")
    security = AptSuite(
        web.folder / "live/security", key, "bookworm-security", label="Debian-Security", origin="Debian"
    )
    version = {"security": "2.0", "all": "3.0"}[level]
    main.add("gold", version)
    main.add("never-ever", version)
    security.add("safe", version)
    for suite in (main, security):
        suite.publish()
    host.sh("cat >/etc/apt/trusted.gpg.d/test.asc", key.armored.encode())
    host.sh("mkdir -p /root/aside; mv /etc/apt/sources.list.d/* /root/aside/")
    try:
        host.sh(
            f"printf 'deb {web.url}/live/main bookworm main\\ndeb {web.url}/live/security bookworm-security main\\n'"
            " >/etc/apt/sources.list; rm -rf /var/lib/apt/lists/*; apt-get -q update"
        )
        host.sh("dpkg-query -W never-ever 2>/dev/null || { cd /tmp; apt-get -q download never-ever; }")
        host.sh("unattended-upgrade")
        expected = {"safe": version, "gold": "1.2" if level == "security" else version}
        assert versions(host, "safe", "gold") == expected
    finally:
        host.sh("rm -f /etc/apt/sources.list; mv /root/aside/* /etc/apt/sources.list.d/")
    assert "OnCalendar=*-*-* 03:30" in host.sh("systemctl cat apt-daily-upgrade.timer")
    assert host.sh("systemctl is-enabled apt-daily-upgrade.timer") == "enabled"
    assert 'Unattended-Upgrade::Automatic-Reboot "true";' in host.sh("apt-config dump")


@root
def test_an_instance_does_not_upgrade_itself_where_the_recipe_says_no(host: Host) -> None:
    stage(host, closing_stage(PatchSpec.model_validate({"unattended": False}), os="debian"))
    assert 'APT::Periodic::Unattended-Upgrade "0";' in host.sh("apt-config dump APT::Periodic")
    assert host.sh("ls /etc/apt/apt.conf.d/60goldenami-unattended 2>/dev/null || :") == ""


@root
def test_a_reboot_is_told_from_what_needs_it(host: Host) -> None:
    reboot = Stage("reboot", (BoundOperation(Reboot(when="if-needed"), Mark("", 0, 0)),))

    def told() -> str:
        (result,) = stage(host, reboot, mode="check").operations
        return result.detail if result.status == "changed" else ""

    if told() == "init runs replaced code":
        stage(host, reboot)
    assert told() == ""
    running = host.sh("uname -r")
    newer = f"99.0.0-1-{running.rpartition('-')[2]}"
    host.sh(f"mkdir -p /boot; touch /boot/vmlinuz-{running} /boot/vmlinuz-{newer} /boot/vmlinuz-99.9-1-other")
    assert told() == f"kernel {running} -> {newer}"
    host.sh("rm /boot/vmlinuz-*")
    host.sh("printf '#!/bin/sh\\necho NEEDRESTART-KSTA: 3\\n' >/usr/local/sbin/needrestart")
    host.sh("chmod 755 /usr/local/sbin/needrestart")
    assert told() == "needrestart reports a newer kernel"
    host.sh("rm /usr/local/sbin/needrestart; touch /run/reboot-required")
    assert told() == "/run/reboot-required is there"
    boot = host.connection.boot_id()
    assert stage(host, reboot).rebooted == 1
    assert host.connection.boot_id() != boot
    assert told() == ""


# --- dnf --------------------------------------------------------------------------------------------------------------

ADVISORY = """<?xml version="1.0" encoding="UTF-8"?>
<updates><update from="a@b.test" status="stable" type="security" version="1"><id>EX-1</id><title>x</title>
<severity>Important</severity><issued date="2026-10-01 00:00:00"/><description>x</description>
<pkglist><collection short="x"><name>x</name>
<package name="safe" version="{version}" release="1" epoch="0" arch="noarch" src="x"><filename>x</filename></package>
</collection></pkglist></update></updates>
"""
TIMER = {
    "/usr/lib/systemd/system/dnf-automatic.timer": "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n",
    "/usr/lib/systemd/system/dnf-automatic.service": "[Service]\nExecStart=/bin/true\n",
}


@pytest.fixture(scope="module")
def dnf(host: Host, web: Served, key: Key) -> Iterator[dict[str, Any]]:
    """The same host, whose system is rpm's now, with packages of a day before those of two archives. Comes last."""
    missing = [p for p in ("rpmbuild", "createrepo_c") if shutil.which(p) is None]
    if missing:
        pytest.skip(f"NOT PROVEN: {', '.join(missing)} not installed, so no repository of dnf can be made")
    for day, version in {"base": "1.0", **DAYS}.items():
        folder = web.folder / "rpm" / day
        for name in (*NAMES, "extra"):
            build_rpm(folder, name, version, key=key)
        build_rpm(folder, "dnf-automatic", "1", key=key, files=TIMER)
        publish_rpms(folder, advisories=ADVISORY.format(version=version))
    host.sh("mkdir -p /etc/rpm && echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros && rpm --initdb")
    host.sh("mv /var/lib/dpkg /var/lib/dpkg.aside; printf '[main]\\nenabled=0\\n' >/etc/dnf/plugins/local.conf")
    host.sh("rm -f /etc/yum.repos.d/*")
    base: dict[str, Any] = {"name": "base", "uris": [f"{web.url}/rpm/base"], "key": key.armored}
    host.run(bind("repository", **base), bind("package", name=list(NAMES)))
    yield {"uri": f"{web.url}/rpm/{{date}}", "key": key.armored}
    host.sh("mv /var/lib/dpkg.aside /var/lib/dpkg")


@root
def test_dnf_a_build_has_the_packages_of_its_day(host: Host, dnf: dict[str, Any]) -> None:
    before = provision.packages(host.connection)
    early = spec(dnf, date="2026-10-01", level="security")
    stage(host, patch_stage(early, os="amzn"))
    assert versions(host, *NAMES) == {"gold": "1.0-1", "kept": "1.0-1", "safe": "1.1-1"}
    assert "safe.noarch: 1.0-1 -> 1.1-1" in host.output()
    early = spec(dnf, date="2026-10-01", exclude=["ke*"])
    stage(host, patch_stage(early, os="amzn"))
    host.run(bind("package", name="extra"))
    assert versions(host, *NAMES, "extra") == {"gold": "1.1-1", "kept": "1.0-1", "safe": "1.1-1", "extra": "1.1-1"}
    assert stage(host, patch_stage(early, os="amzn")).changed == 0
    stage(host, closing_stage(early, os="amzn"))
    assert host.sh("ls /etc/yum.repos.d; ls -d /etc/dnf/goldenami* 2>/dev/null || :") == "base.repo"
    changes = {
        c.name: (c.before, c.after) for c in provision.package_changes(before, provision.packages(host.connection))
    }
    assert changes == {"gold": ("1.0-1", "1.1-1"), "safe": ("1.0-1", "1.1-1"), "extra": (None, "1.1-1")}


@root
@pytest.mark.nightly
def test_dnf_a_release_of_the_distribution_is_a_variable(
    host: Host, dnf: dict[str, Any], web: Served, key: Key
) -> None:
    host.run(bind("repository", name="base", uris=[f"{web.url}/rpm/$releasever"], key=key.armored))
    released = PatchSpec.model_validate({"releasever": "2026.11", "reboot": "never"})
    (web.folder / "rpm/2026.11").symlink_to("2026-11-01")
    stage(host, patch_stage(released, os="rocky"))
    assert versions(host, "gold") == {"gold": "1.2-1"}
    stage(host, closing_stage(released, os="rocky"))
    assert host.sh("ls /etc/dnf/vars /etc/dnf/goldenami-aside 2>/dev/null || :").split() == ["/etc/dnf/vars:"]
    host.run(bind("repository", name="base", uris=[f"{web.url}/rpm/base"], key=key.armored))


CORE = """[core]
name=core
mirrorlist=http://cdn.example/lists/$releasever
gpgkey=http://cdn.example/key
gpgcheck=1
skip_if_unavailable=0
"""


@root
@pytest.mark.nightly
@pytest.mark.parametrize("way", ["mirror", "proxy"])
def test_dnf_packages_come_from_the_network_of_the_build_and_nothing_of_it_stays(
    host: Host, dnf: dict[str, Any], web: Served, key: Key, way: str
) -> None:
    """tests/provision/test_network.py has a short variant without a host."""
    cdn = web.folder / f"cdn-{way}"
    build_rpm(cdn / "core", f"only-{way}", "1.0", key=key)
    build_rpm(cdn / "core", "gold", "3.0", key=key)
    publish_rpms(cdn / "core", advisories=ADVISORY.format(version="3.0"))
    (cdn / "key").write_text(key.armored)
    (cdn / "lists").mkdir()
    (cdn / "lists/9").write_text("http://cdn.example/core\n")
    if way == "proxy":  # it is asked for whole URLs, and this server answers them from a folder of that name
        (web.folder / "http:").mkdir(exist_ok=True)
        (web.folder / "http:/cdn.example").symlink_to(cdn)
    host.sh("mkdir -p /etc/dnf/vars; echo 9 >/etc/dnf/vars/releasever")
    host.sh("cat >/etc/yum.repos.d/core.repo", CORE.encode())
    before = host.sh("sha256sum /etc/yum.repos.d/*")
    mirrors = {
        "http://cdn.example/lists/$releasever": f"{web.url}/cdn-{way}/core",
        "http://cdn.example": f"{web.url}/cdn-{way}",
    }
    network = BuildNetwork(mirrors=mirrors) if way == "mirror" else BuildNetwork(http=web.url)
    every = PatchSpec.model_validate({"level": "all", "reboot": "never"})
    used = network.mirrors
    stages = [
        patch_stage(every, os="rocky", mirrors=used),
        Stage("software", (bind("package", name=f"only-{way}"),)),
        closing_stage(every, os="rocky", mirrors=used),
    ]
    provision.run_program(host.connection, stages, network=network)
    assert versions(host, "gold", f"only-{way}") == {"gold": "3.0-1", f"only-{way}": "1.0-1"}
    assert host.sh("sha256sum /etc/yum.repos.d/*") == before
    address = web.url.removeprefix("http://")
    left = host.sh(f"grep -rlF {address} /etc /root /var/lib/goldenami-mirrored 2>/dev/null || :")
    assert left == "/etc/yum.repos.d/base.repo", "the recipe's own repository is there, and the mirror is not"
    host.sh("rm /etc/yum.repos.d/core.repo /etc/dnf/vars/releasever; rpm -e gold; dnf clean -q metadata")
    host.run(bind("package", name="gold"))


@root
@pytest.mark.nightly
def test_dnf_an_instance_upgrades_itself_as_the_recipe_says(
    host: Host, dnf: dict[str, Any], web: Served, key: Key, tmp_path: Path
) -> None:
    unattended = {"level": "security", "exclude": ["kept"], "at": "04:00"}
    closing = closing_stage(PatchSpec.model_validate({"unattended": unattended}), os="rocky")
    stage(host, closing)
    assert stage(host, closing).changed == 0
    live = web.folder / "rpm/live"
    for name in NAMES:
        build_rpm(live, name, "2.0", key=key)
    publish_rpms(live, advisories=ADVISORY.format(version="2.0"))
    host.run(bind("repository", name="base", uris=[f"{web.url}/rpm/live"], key=key.armored))
    before = versions(host, "gold")
    # Debian has the program as a module of dnf's, without its own command and units, and is no release of dnf's.
    host.sh("mkdir -p /etc/dnf/vars; echo 1 >/etc/dnf/vars/releasever")
    host.sh("python3 -c 'import sys, dnf.automatic.main as m; sys.exit(m.main([]))' >/dev/null")
    assert versions(host, "gold", "safe") == {**before, "safe": "2.0-1"}
    assert host.sh("systemctl is-enabled dnf-automatic.timer") == "enabled"
    assert "OnCalendar=*-*-* 04:00" in host.sh("systemctl cat dnf-automatic.timer")
    stage(host, closing_stage(PatchSpec.model_validate({"unattended": False}), os="rocky"))
    assert versions(host, "dnf-automatic") == {"dnf-automatic": ""}
