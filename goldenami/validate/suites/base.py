"""The built-in suite ``base``: properties that every instance of a golden image must have.

It runs at both gates, on systems with systemd. The tests of packages are skipped, with the reason, if the package
manager has no commands that can prove their result. Most tests run one command, and report its output if they fail.
No test changes the host, apart from a temporary file, so their commands are sent ahead.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from goldenami.os import Proofs, of_release
from goldenami.os.sshd import SETTINGS
from goldenami.validate.reading import BOOT_SECONDS, CONTAINER, ENABLED, WAIT_FOR_BOOT, enabled_services

Host = Any  # testinfra's Host; its modules (host.sudo, host.file) are created at run time

pytestmark = pytest.mark.reads

_FREE_PERCENT = 10
_CLOCK_SECONDS = 30
_SHOWN_UNITS = 2  # failed units whose journal a message shows; it has 12 lines at most
_JOURNAL_LINES = 4
_NEVER_DAYS = 99999  # for passwords that do not expire: login.defs(5)


@pytest.fixture(scope="module")
def release(host: Host) -> dict[str, str]:
    """/etc/os-release: https://www.freedesktop.org/software/systemd/man/latest/os-release.html"""
    lines = host.check_output("cat /etc/os-release").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: value.strip("\"'") for name, value in pairs}


@pytest.fixture
def proofs(release: dict[str, str]) -> Proofs:
    """The commands of the host's package manager that the tests of packages use."""
    system = of_release(release.get("ID", ""), release.get("ID_LIKE", ""))
    if system is None:
        pytest.skip(f"NOT PROVEN: {release.get('PRETTY_NAME')} is not a supported system; its packages are not checked")
    found = system.manager.proofs
    if found is None:
        pytest.skip(
            f"NOT PROVEN: {release.get('PRETTY_NAME')} uses {system.manager.name}; its packages are not checked"
        )
    return found


def test_boot_is_complete(host: Host) -> None:
    """The boot has ended, and no unit failed."""
    state = host.run(WAIT_FOR_BOOT).stdout.strip()
    # systemd does not list a unit that failed and was reset, or that succeeded at its second attempt.
    failed = host.run("systemctl list-units --failed --plain --no-legend --no-pager").stdout
    units = [line.split()[0] for line in failed.splitlines() if line.strip()]
    assert not units, f"failed units: {', '.join(units)}\n{_reasons(host, units[:_SHOWN_UNITS])}"
    assert state == "running", f"the system is {state or 'not up'} after {BOOT_SECONDS} s"


def _reasons(host: Host, units: list[str]) -> str:
    """Return the result of each unit and the last lines of its journal."""
    with host.sudo():
        shown = host.run(
            "for unit in" + " %s" * len(units) + "; do "
            'echo "$unit: $(systemctl show --property=Result,ExecMainStatus --value "$unit" | paste -sd " ")"; '
            f'journalctl --quiet --no-pager --boot --lines={_JOURNAL_LINES} --output=cat --unit="$unit"; done',
            *units,
        )
    return str(shown.stdout).strip()


def test_services_that_are_to_run_do(host: Host) -> None:
    """Enabled services with a restart policy (agents, daemons) are running. Services that a socket or timer starts, and
    services whose conditions are not met on this host, are left out."""
    names = enabled_services(host.check_output(ENABLED).splitlines())
    if not names:
        return
    wanted = "Id,Restart,ActiveState,ConditionResult,TriggeredBy"
    shown = host.check_output("systemctl show --property=" + wanted + " --" + " %s" * len(names), *names)
    units = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]
    stopped = list(
        dict.fromkeys(
            unit["Id"]
            for unit in units
            if unit.get("Restart") in ("always", "on-failure", "on-abnormal")
            and unit["ActiveState"] not in ("active", "activating", "reloading")
            and unit.get("ConditionResult") == "yes"
            and not unit.get("TriggeredBy")
        )
    )
    assert not stopped, f"enabled, but not running: {', '.join(stopped)}\n{_reasons(host, stopped[:_SHOWN_UNITS])}"


def test_cloud_init_succeeded(host: Host) -> None:
    """cloud-init had no error. Exit status 2 is a recoverable error (deprecated keys), since cloud-init 23.4."""
    if not host.exists("cloud-init"):
        pytest.skip("cloud-init is not installed")
    status = host.run(f"timeout {BOOT_SECONDS} cloud-init status --wait --long")
    assert status.rc in (0, 2), status.stdout


def test_ssh_server_is_sound(host: Host) -> None:
    """The configuration of the SSH server is valid, and the server starts at every boot."""
    with host.sudo():
        check = host.run(SETTINGS)
    assert check.rc == 0, check.stderr
    states = host.run("systemctl is-enabled ssh.service ssh.socket sshd.service sshd.socket 2>/dev/null").stdout
    assert {"enabled", "alias", "enabled-runtime"} & set(states.split()), "no unit starts the SSH server at boot"


def test_ssh_host_keys_are_private(host: Host) -> None:
    """There are SSH host keys, and only root can read them."""
    with host.sudo():
        keys = host.check_output("stat -c '%a %U %n' /etc/ssh/ssh_host_*_key").splitlines()
    # Some systems (RHEL 9) give read access to the group of ssh-keysign, which has no other members.
    readable = [key for key in keys if not re.match(r"(600|400|640) root ", key)]
    assert not readable, f"expected mode 600, 400 or 640 and owner root, found: {', '.join(readable)}"


def test_nobody_can_log_in_by_password(host: Host) -> None:
    """The SSH server refuses passwords, or no account has a password. No account has an empty password."""
    with host.sudo():
        shadow = host.check_output("cut -d: -f1,2 /etc/shadow").splitlines()
        effective = host.run(SETTINGS).stdout.lower().splitlines()
    fields = [line.split(":", 1) for line in shadow]
    empty = [name for name, password in fields if password == ""]
    assert not empty, f"accounts with an empty password: {', '.join(empty)}"
    usable = [name for name, password in fields if password[:1] not in ("!", "*")]
    if "passwordauthentication no" not in effective:
        assert not usable, f"the SSH server accepts passwords, and these accounts have one: {', '.join(usable)}"


def test_login_user_can_sudo_without_password(host: Host) -> None:
    user = host.check_output("id -un")
    if user == "root":
        pytest.skip("the login user is root")
    with host.sudo():
        assert host.check_output("id -u") == "0"


def test_rules_of_sudo_are_valid(host: Host) -> None:
    """All sudo rules are valid, because one invalid file in /etc/sudoers.d disables sudo for all users. The rules that
    cloud-init wrote are in effect."""
    with host.sudo():
        check = host.run(
            "$(command -v visudo || echo /usr/sbin/visudo) -c >&2 || exit; "
            "cat /etc/sudoers.d/90-cloud-init-users 2>/dev/null || :"
        )
        assert check.rc == 0, check.stderr
        written = check.stdout.splitlines()
        named = {line.split()[0] for line in written if line.strip() and not line.startswith(("#", "%"))}
        granted = {name: host.run("sudo -l -U %s", name).stdout for name in sorted(named)}
    for name, rights in granted.items():
        assert "NOPASSWD" in rights, f"sudo asks {name} for a password, but cloud-init granted NOPASSWD: {rights}"


def test_login_user_can_log_in_next_year(host: Host) -> None:
    """The login user does not expire. PAM also refuses a login by key if the account or its password has expired, even
    if the account has no password."""
    user = host.check_output("id -un")
    with host.sudo():
        shadow = host.run("getent shadow %s", user).stdout.strip().split(":")
    if len(shadow) < 9:
        pytest.skip(f"{user} is not in /etc/shadow")
    _, password, changed, _, most, _, inactive, expires, _ = shadow
    assert not expires, f"the account {user} expires {expires} days after 1970-01-01"
    if password[:1] in ("!", "*", ""):
        ends = most not in ("", "-1") and int(most) < _NEVER_DAYS
        assert not ends, (
            f"{user} has no password, but its password expires after {most} days (inactive: {inactive or 'never'})"
        )
    assert changed != "0", f"{user} must change its password at the next login"


def test_new_sessions_are_let_in(host: Host) -> None:
    """PAM's account and session modules allow new sessions of the login user and of root. A login by key runs the same
    modules."""

    def try_session(name: str) -> None:
        with host.sudo():
            session = host.run("runuser -l %s -c 'id -un'", name)
        lines = session.stdout.strip().splitlines()
        assert lines[-1:] == [name], f"a session of {name}: {session.stderr or session.stdout}"

    try_session("root")  # first, because its name is known
    try_session(host.check_output("id -un"))


def test_packages_can_be_installed(host: Host, proofs: Proofs) -> None:
    """The package manager can plan an installation, and the scripts of packages can run in the folder to which they are
    unpacked."""
    with host.sudo():
        plan = host.run(proofs.plan)  # first: it takes longest
        script = host.run(
            # mktemp would take no name for its own folder, which may be another one.
            f'd=$({proofs.unpack_folder}) && [ -n "$d" ] || exit; echo "$d"; '
            'f=$(mktemp -p "$d") && printf "#!/bin/sh\\nexit 0\\n" >"$f" && chmod 700 "$f" && "$f"; '
            's=$?; rm -f "$f"; exit $s'
        )
    assert plan.rc == 0, plan.stderr
    folder = script.stdout.strip()
    assert folder, f"the package manager does not tell where it unpacks scripts of packages: {script.stderr}"
    assert script.rc == 0, f"programs cannot run in {folder}, where scripts of packages are unpacked: {script.stderr}"


def test_packages_are_consistent(host: Host, proofs: Proofs) -> None:
    """No package is half installed, and no dependency is broken."""
    audit = host.check_output(proofs.audit)
    assert audit == "", audit
    with host.sudo():
        check = host.run(proofs.plan)  # as the test before: it reads all packages, so it runs once for both
    assert check.rc == 0, check.stderr


def test_package_sources_are_configured(host: Host, proofs: Proofs) -> None:
    assert host.check_output(proofs.sources), "no package source is configured"


def test_names_of_package_sources_resolve(host: Host, proofs: Proofs) -> None:
    """The host resolves the names of its package sources."""
    if host.run(proofs.proxy).stdout.strip():
        pytest.skip("a proxy resolves the names of the package sources")
    sources = host.check_output(proofs.sources).splitlines()
    names = sorted({urlsplit(uri).hostname or "" for uri in sources if uri.startswith("http")} - {""})
    if not names:
        pytest.skip("no package source is reached by a name")
    unknown = [name for name in names if host.run("getent ahosts %s", name).rc != 0]
    assert not unknown, f"not resolved: {', '.join(unknown)}"


def test_own_name_resolves(host: Host) -> None:
    """The host resolves its own name and localhost. Otherwise sudo and many daemons wait for a timeout."""
    assert host.run("getent hosts localhost").rc == 0
    assert host.run('getent ahosts "$(hostname)"').rc == 0, "the host's own name does not resolve"


def test_clock_is_right(host: Host) -> None:
    """The clock differs by less than 30 seconds from the clock of the computer that runs the tests."""
    difference = int(host.check_output("date +%s")) - time.time()
    assert abs(difference) < _CLOCK_SECONDS, f"the host's clock is {difference:+.0f} s off"


def test_root_filesystem_has_space(host: Host) -> None:
    """The root filesystem has free bytes and free inodes, and is mounted read-write."""
    command = "df -Pk / && df -Pi / && findmnt --noheadings --output OPTIONS --target /"
    _, space, _, inodes, mount = host.check_output(command).splitlines()
    for what, line in (("space", space), ("inodes", inodes)):
        total, _, free = (int(n) for n in line.split()[1:4])
        # A filesystem without a fixed number of inodes may report 0 of them (btrfs).
        assert total == 0 or free * 100 >= total * _FREE_PERCENT, f"{what}: {free} of {total} left"
    assert "rw" in mount.split(",")


def test_machine_id_is_proper(host: Host) -> None:
    """https://www.freedesktop.org/software/systemd/man/latest/machine-id.html"""
    machine_id = host.check_output("cat /etc/machine-id")
    assert re.fullmatch(r"[0-9a-f]{32}", machine_id), f"machine-id is {machine_id!r}, expected 32 hexadecimal digits"
    assert set(machine_id) != {"0"}


def test_sysctl_settings_exist(host: Host) -> None:
    """The kernel has every key that /etc/sysctl.conf and /etc/sysctl.d set. systemd-sysctl only warns about others.

    A container uses the kernel of its host, so only the keys of the container's own network are checked there."""
    lines = host.run("cat /etc/sysctl.conf /etc/sysctl.d/*.conf 2>/dev/null").stdout.splitlines()
    keys = [line.split("=", 1)[0].strip() for line in lines if "=" in line and line.strip()[:1] not in ("#", ";")]
    # A key with a leading "-" may be missing. A glob matches only keys that exist. Both are left out.
    names = [key.replace("/", "\0").replace(".", "/").replace("\0", ".") if "/" not in key else key for key in keys]
    wanted = sorted({name for name in names if not name.startswith("-") and not set("*?[") & set(name)})
    if host.run(CONTAINER).rc == 0:
        wanted = [name for name in wanted if name.startswith("net/") and not name.startswith("net/core/")]
    if not wanted:
        return
    missing = host.run("cd /proc/sys && ls -d -- " + " ".join(["%s"] * len(wanted)) + " >/dev/null", *wanted)
    assert missing.rc == 0, missing.stderr


def test_a_kernel_is_installed(host: Host) -> None:
    if host.run(CONTAINER).rc == 0:
        pytest.skip("this instance is a container and uses the kernel of its host")
    with host.sudo():
        kernels = host.run("ls /boot/vmlinuz-* /boot/Image-* 2>/dev/null").stdout.split()
    assert kernels, "there is no kernel in /boot"


def test_metadata_service_requires_a_token(host: Host) -> None:
    """The metadata service refuses IMDSv1 because of HttpTokens=required (401; 403 if the service is disabled):
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html"""
    request = (
        "exec 3<>/dev/tcp/169.254.169.254/80 && "
        r"printf 'GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n' >&3 && "
        "head -n 1 <&3"
    )
    answer = host.run("timeout 5 bash -c %s", request)
    if not answer.stdout.startswith("HTTP/"):
        pytest.skip("there is no instance metadata service")
    assert answer.stdout.split()[1] in ("401", "403"), (
        f"a request without a token was answered: {answer.stdout.strip()}"
    )


def test_goldenami_left_nothing_behind(host: Host) -> None:
    """No program, payload or secret of the build is left on the host."""
    places = "/run /tmp /var/tmp /var/lib /root /home"
    with host.sudo():
        found = host.run(f"find {places} -xdev -maxdepth 2 -iname '*goldenami*' 2>/dev/null").stdout.split()
    assert not found, f"left behind: {', '.join(found)}"
