"""What the built-in suites read on a host."""

from __future__ import annotations

import contextlib
import os
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from goldenami.os import MANAGERS
from goldenami.os.managers.manager import Proofs
from goldenami.os.sshd import KEY_ENTRIES, key_entries
from goldenami.validate.reading import BOOT_TIMES, ENABLED, WAIT_FOR_BOOT, enabled_services, start_of_boot
from goldenami.validate.traces import Traces

Suites = Callable[[str], dict[str, Any]]


class Host:
    """A host that notes what it is asked. ``answers``: outputs, by command; others are run by the shell of this
    machine."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def sudo(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def run(self, command: str, *arguments: str) -> Any:
        self.asked.append(command)
        known = next((answer for start, answer in self.answers.items() if command.startswith(start)), None)
        if known is not None:
            return SimpleNamespace(rc=0, stdout=known, stderr="")
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return SimpleNamespace(rc=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Suites:
    """Built-in suites, each by its name. Their marks are those of their own runs of pytest."""
    monkeypatch.setattr(pytest.mark, "_config", None)
    return lambda name: runpy.run_module(f"goldenami.validate.suites.{name}")


def test_what_suites_share_is_read_after_the_end_of_the_boot(suite: Suites) -> None:
    """The first one that asks decides how old the answer is."""
    booted = "UserspaceTimestamp=@60\nFinishTimestampMonotonic=1\n"
    host = Host({WAIT_FOR_BOOT: "running\n", BOOT_TIMES: booted, KEY_ENTRIES: "", "find": "", "grep": ""})
    sealed = suite("sealed")
    sealed["test_no_login_is_remembered"](host)
    assert host.asked.index(WAIT_FOR_BOOT) < host.asked.index(BOOT_TIMES)
    host.asked.clear()
    sealed["test_key_of_the_builder_opens_nothing"](host, _traces("ssh-ed25519 AAAAOURS builder"))
    assert host.asked.index(WAIT_FOR_BOOT) < host.asked.index(KEY_ENTRIES)


def _traces(public_key: str) -> Traces:
    return Traces(public_key=public_key, host_keys=(), machine_id="", files=())


def test_a_key_with_an_odd_comment_is_one_entry(suite: Suites) -> None:
    """str.splitlines ends lines where sshd does not."""
    entry = "ssh-ed25519 AAAAOURS a\x0cb\x85c\u2028d\r"
    printed = f"/root/.ssh/authorized_keys\troot\t{entry}\n/root/.ssh/authorized_keys\troot\t\n"
    file = "/root/.ssh/authorized_keys"
    assert key_entries(printed) == [(file, "root", entry), (file, "root", "")]
    assert key_entries("") == []
    host = Host({WAIT_FOR_BOOT: "running\n", KEY_ENTRIES: printed, "grep": ""})
    with pytest.raises(AssertionError, match=f"temporary key is in {file}"):
        suite("sealed")["test_key_of_the_builder_opens_nothing"](host, _traces("ssh-ed25519 AAAAOURS builder"))


def test_a_folder_that_is_not_told_is_a_fault(suite: Suites) -> None:
    """mktemp would use its own one, where programs may run."""
    proofs = Proofs(plan="true", unpack_folder="true", audit="true", sources="true", proxy="true")
    with pytest.raises(AssertionError, match="does not tell where it unpacks"):
        suite("base")["test_packages_can_be_installed"](Host({}), proofs)


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
