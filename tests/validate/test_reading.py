"""What the built-in suites read on a host."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from goldenami.os import MANAGERS
from goldenami.validate.reading import ENABLED, enabled_services, start_of_boot


def test_services_are_enabled_by_links(tmp_path: Path) -> None:
    """As systemctl(1) makes them: by what wants them, by an alias. A link can also only add a unit, or mask one."""
    system = tmp_path / "etc/systemd/system"
    links = {
        "multi-user.target.wants/ssh.service": "/lib/systemd/system/ssh.service",
        "multi-user.target.wants/remote-fs.target": "/lib/systemd/system/remote-fs.target",
        "getty.target.wants/getty@tty1.service": "/lib/systemd/system/getty@.service",
        "local-fs.target.requires/check.service": "/etc/systemd/system/check.service",
        "ssh.service.d/link.service": "/lib/systemd/system/no.service",
        "dbus.service": "/usr/lib/systemd/system/dbus-broker.service",
        "added.service": "/opt/agent/added.service",
        "masked.service": "/dev/null",
    }
    for name, target in links.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).symlink_to(target)
    (system / "check.service").write_text("[Service]\n")
    command = ENABLED.replace("/etc/systemd", str(tmp_path / "etc/systemd"))
    listed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert sorted(enabled_services(listed.splitlines())) == ["check.service", "dbus.service", "ssh.service"]


def test_the_start_of_the_boot_is_the_time_that_systemd_tells() -> None:
    """Not the time of the monotonic clock, and not a date for people, as an older systemd prints it."""
    monotonic = "FirmwareTimestampMonotonic=0\nUserspaceTimestampMonotonic=@5\n"
    assert start_of_boot(f"{monotonic}UserspaceTimestamp=@1796053556\n") == 1796053556
    assert start_of_boot(f"UserspaceTimestamp=Mon 2026-11-30 15:45:56 UTC\n{monotonic}") is None
    assert start_of_boot("") is None


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt")
def test_apt_plans_with_what_is_installed_and_writes_nothing(tmp_path: Path) -> None:
    """The lists of the repositories are left out, so one that cannot be read is no fault. A dependency is."""
    proofs = MANAGERS["apt"].proofs
    assert proofs is not None
    stanza = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nMaintainer: m\n{}\n"
    status, lists = tmp_path / "var/lib/dpkg/status", tmp_path / "var/lib/apt/lists"
    for folder in ("etc/apt", "var/cache/apt/archives/partial", "var/lib/dpkg", "var/lib/apt/lists/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/nowhere ./\n")
    (lists / "_nowhere_._Packages").write_text("Package\n")
    configuration = tmp_path / "apt.conf"
    configuration.write_text(f'Dir "{tmp_path}";\nDir::State::status "{status}";\nAPT::Architecture "amd64";\n')

    def plan() -> int:
        environment = os.environ | {"APT_CONFIG": str(configuration)}
        done = subprocess.run(["sh", "-c", proofs.plan], env=environment, capture_output=True, check=False)
        return done.returncode

    status.write_text(stanza.format("dpkg", ""))
    assert plan() == 0
    assert list((tmp_path / "var/cache/apt").glob("*.bin")) == []
    status.write_text(stanza.format("dpkg", "") + stanza.format("app", "Depends: missing\n"))
    assert plan() != 0
