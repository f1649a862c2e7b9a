"""A hundred usual checks, as a team writes them for testinfra. pytest runs the same file over each backend.

``bound.script`` gathers what they ask for.
"""

from __future__ import annotations

from typing import Any

import pytest

Host = Any

PACKAGES = ("bash", "coreutils", "dpkg", "grep", "sed", "gzip", "login", "mount", "openssh-server", "sudo")
ABSENT = ("telnetd", "rsh-server", "nis", "talkd")
RUNNING = ("ssh", "systemd-journald", "systemd-logind", "dbus")
ENABLED = ("ssh", "cloud-final")
ACCOUNTS = {
    "root": 0,
    "daemon": 1,
    "bin": 2,
    "sys": 3,
    "games": 5,
    "man": 6,
    "mail": 8,
    "www-data": 33,
    "nobody": 65534,
}
GROUPS = {"root": 0, "adm": 4, "sudo": 27, "shadow": 42, "users": 100}
FILES = {
    "/etc/passwd": ("root", "root", 0o644),
    "/etc/group": ("root", "root", 0o644),
    "/etc/shadow": ("root", "shadow", 0o640),
    "/etc/gshadow": ("root", "shadow", 0o640),
    "/etc/hosts": ("root", "root", 0o644),
    "/etc/fstab": ("root", "root", 0o644),
    "/etc/login.defs": ("root", "root", 0o644),
    "/etc/profile": ("root", "root", 0o644),
    "/etc/shells": ("root", "root", 0o644),
    "/etc/nsswitch.conf": ("root", "root", 0o644),
    "/etc/sudoers": ("root", "root", 0o440),
    "/etc/ssh/sshd_config": ("root", "root", 0o644),
}
FOLDERS = (
    "/etc/apt",
    "/etc/ssh",
    "/etc/systemd/system",
    "/var/log",
    "/var/lib/dpkg",
    "/run/systemd/system",
    "/srv",
    "/opt",
)
CONTENTS = {
    "/etc/passwd": "^root:x:0:0:",
    "/etc/group": "^sudo:",
    "/etc/os-release": "^ID=debian",
    "/etc/login.defs": "^PASS_MAX_DAYS",
    "/etc/nsswitch.conf": "^hosts:",
    "/etc/shells": "^/bin/bash",
    "/etc/hosts": "localhost",
    "/etc/ssh/sshd_config": "UsePAM",
}
SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.tcp_syncookies",
    "kernel.ostype",
    "fs.file-max",
    "kernel.pid_max",
    "vm.swappiness",
)
PROGRAMS = ("sh", "bash", "systemctl", "apt-get", "sshd", "sudo", "ss", "stat")


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_installed(host: Host, name: str) -> None:
    package = host.package(name)
    assert package.is_installed
    assert package.version


@pytest.mark.parametrize("name", ABSENT)
def test_package_is_absent(host: Host, name: str) -> None:
    assert not host.package(name).is_installed


@pytest.mark.parametrize("name", RUNNING)
def test_service_runs(host: Host, name: str) -> None:
    assert host.service(name).is_running


@pytest.mark.parametrize("name", ENABLED)
def test_service_is_enabled(host: Host, name: str) -> None:
    assert host.service(name).is_enabled


@pytest.mark.parametrize("name", ACCOUNTS)
def test_account(host: Host, name: str) -> None:
    user = host.user(name)
    assert user.exists
    assert user.uid == ACCOUNTS[name]
    assert user.shell.startswith("/")


@pytest.mark.parametrize("name", GROUPS)
def test_group(host: Host, name: str) -> None:
    assert host.group(name).gid == GROUPS[name]


@pytest.mark.parametrize("path", FILES)
def test_file(host: Host, path: str) -> None:
    file = host.file(path)
    assert file.is_file
    assert (file.user, file.group, file.mode) == FILES[path]


@pytest.mark.parametrize("path", FOLDERS)
def test_folder(host: Host, path: str) -> None:
    assert host.file(path).is_directory


@pytest.mark.parametrize("path", CONTENTS)
def test_content(host: Host, path: str) -> None:
    assert host.file(path).contains(CONTENTS[path])


@pytest.mark.parametrize("name", SYSCTLS)
def test_kernel_parameter(host: Host, name: str) -> None:
    assert host.sysctl(name) != ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(host: Host, name: str) -> None:
    assert host.exists(name) or host.file(f"/usr/sbin/{name}").exists


@pytest.mark.parametrize("socket", ["tcp://22", "tcp://0.0.0.0:22"])
def test_port_is_open(host: Host, socket: str) -> None:
    assert host.socket(socket).is_listening


@pytest.mark.parametrize("socket", ["tcp://23", "tcp://0.0.0.0:111", "udp://0.0.0.0:111"])
def test_port_is_closed(host: Host, socket: str) -> None:
    assert not host.socket(socket).is_listening


@pytest.mark.parametrize("comm", ["sshd", "systemd-journal", "systemd-logind"])
def test_process(host: Host, comm: str) -> None:
    assert host.process.filter(comm=comm)


@pytest.mark.parametrize("path", ["/", "/proc", "/sys", "/dev"])
def test_mount(host: Host, path: str) -> None:
    assert host.mount_point(path).exists


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/root"])
def test_as_root(host: Host, path: str) -> None:
    with host.sudo():
        assert host.check_output("stat -c %%U %s", path) == "root"


def test_system(host: Host) -> None:
    assert host.system_info.distribution == "debian"
    assert host.system_info.codename == "bookworm"


def test_name_resolves(host: Host) -> None:
    assert host.addr("localhost").is_resolvable


def test_login_user(host: Host) -> None:
    assert host.user().name == "admin"


def test_password_of_root_is_locked(host: Host) -> None:
    with host.sudo():
        assert host.user("root").password[:1] in ("!", "*")


def test_clock(host: Host) -> None:
    assert int(host.check_output("date +%s")) > 1_700_000_000


def test_kernel(host: Host) -> None:
    assert host.check_output("uname -r")


def test_space(host: Host) -> None:
    assert int(host.check_output("df -Pk /").splitlines()[-1].split()[3]) > 0


def test_nobody_else_is_root(host: Host) -> None:
    assert host.check_output("awk -F: '$3 == 0 {print $1}' /etc/passwd") == "root"
