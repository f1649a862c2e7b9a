"""What the built-in suites read on a host."""

from __future__ import annotations

import subprocess
from pathlib import Path

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
