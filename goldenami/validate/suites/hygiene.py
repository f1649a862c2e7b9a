"""The built-in suite ``hygiene``: an image has no keys, credentials, open files or open ports that nobody declared.

One command gathers what all tests need. What an image may have beside its base is declared in the section ``expect`` of
recipes and agents. Some tests prove something only on a new instance of the image; they run at gate "image".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pytest

from goldenami.os.homes import HOMES
from goldenami.os.privileges import RIGHTS
from goldenami.os.sshd import KEY_ENTRIES, KeyEntry, key_entries
from goldenami.validate.reading import BOOT_TIMES, WAIT_FOR_BOOT, in_range, listeners, start_of_boot
from goldenami.validate.settings import NOT_EXECUTED

Host = Any  # testinfra's Host; its modules (host.sudo, host.file) are created at run time
Facts = Mapping[str, Sequence[str]]

_DHCP = ("68/udp", "546/udp")
_NAMES_OF_LINKS = ("5353/udp", "5355/udp", "5355/tcp")  # mDNS and LLMNR: only the systems of the same link reach them
_SECONDS = 120  # between the start of the system and the first file of an instance

pytestmark = [pytest.mark.reads, pytest.mark.retry(0)]  # the facts are read once, after the boot

# The walk of the disks takes as long as all the rest, so both run at the same time.
_GATHER = rf"""{RIGHTS} | {{
exec 3<&0 </dev/null
section() {{ printf '\n=== %s\n' "$1"; }}
_homes=$({HOMES})
section sticky
find /tmp /var/tmp -maxdepth 0 -type d -perm -0002 ! -perm -1000 -print
section private-keys
find $(printf '%s\n' /etc /opt /srv /usr/local /var/lib /var/www /tmp /var/tmp $_homes | sort -u) \
  \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/rpm -o -path /var/lib/dnf -o \
  -path /var/lib/cloud -o -path /var/lib/docker -o -path /var/lib/containers -o -path '/etc/ssh/ssh_host_*_key' \) \
  -prune -o -type f -size -129 -exec grep -lsE -e '^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----' -- {{}} + |
  sort -u
section ports
if command -v ss >/dev/null; then ss -Hlntup; else echo missing; fi
section identity
stat -c '%Y %n' /etc/machine-id /etc/ssh/ssh_host_*_key
section temporary
find /tmp /var/tmp -xdev -mindepth 1 -maxdepth 2 -type f -printf '%T@ %p\n'
"""


@pytest.fixture(scope="module")
def declared(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """What goldenami knows about the image: ``expect`` of the recipe, and the facts of the base."""
    return dict(variables.get("goldenami") or {"expect": {}})


@pytest.fixture(scope="module")
def facts(host: Host, declared: Mapping[str, Any]) -> Facts:
    """The output of all sections, by name."""
    code = _GATHER
    for number, script in enumerate(declared.get("leftovers", {}).values()):
        code += f"section leftovers-{number}\n(\n{script}\n)\n"
    code += "section rights\ncat <&3\nsection end\n}"
    host.run(WAIT_FOR_BOOT)
    with host.sudo():
        done = host.run("sh -c %s", f"exec 2>/dev/null\n{code}")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("=== "):
            found[line[4:]] = []
        elif line and found:
            found[next(reversed(found))].append(line)
    assert "end" in found, f"the facts of the host cannot be read: {done}"
    for name in ("set-id", "writable"):
        found[name] = [line.removeprefix(f"{name} ") for line in found["rights"] if line.startswith(f"{name} ")]
    return found


@pytest.fixture(scope="module")
def login_entries(host: Host) -> Sequence[KeyEntry]:
    """The lines of all files in which sshd looks for keys, after their file and its owner."""
    host.run(WAIT_FOR_BOOT)
    with host.sudo():
        return key_entries(host.run(KEY_ENTRIES).stdout)


@pytest.fixture(scope="module")
def boot(host: Host) -> int | None:
    """When the system started."""
    host.run(WAIT_FOR_BOOT)
    return start_of_boot(host.run(BOOT_TIMES).stdout)


def _unexpected(paths: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return sorted({path for path in paths if not any(fnmatchcase(path, pattern) for pattern in patterns)})


def _refuse(found: Sequence[str], what: str, key: str) -> None:
    more = f" and {len(found) - 20} more" if len(found) > 20 else ""
    assert not found, f"{what}: {', '.join(found[:20])}{more} (what the image needs is declared in expect.{key})"


def test_no_new_set_id_files(
    facts: Facts, declared: Mapping[str, Any], record_fact: Callable[[str, Any], None]
) -> None:
    """No file has a set-user-ID or set-group-ID bit that the base image does not have. Such a file runs with the rights
    of its owner or group, for every account."""
    rights = {path: f"{mode} {owner}" for mode, owner, path in (line.split(" ", 2) for line in facts["set-id"])}
    record_fact("set_id", sorted(facts["set-id"]))
    base = declared.get("set_id")
    if base is None:
        pytest.skip("NOT PROVEN: the set-id files of the base are not known")
    known = set(base)
    new = [line.split(" ", 2)[2] for line in facts["set-id"] if line not in known]
    unexpected = _unexpected(new, declared["expect"].get("set_id", ()))
    _refuse([f"{path} ({rights[path]})" for path in unexpected], "set-id files that the base does not have", "set_id")


def test_nothing_is_writable_for_everybody(facts: Facts, declared: Mapping[str, Any]) -> None:
    """Not every account can write to a file, or to a directory without the sticky bit. /tmp and /var/tmp have this
    bit."""
    assert not facts["sticky"], f"directories without the sticky bit: {', '.join(facts['sticky'])}"
    found = _unexpected(facts["writable"], declared["expect"].get("world_writable", ()))
    _refuse(found, "writable for every account", "world_writable")


def test_no_private_keys(facts: Facts, declared: Mapping[str, Any]) -> None:
    """No file has a private key in PEM or OpenSSH's format: every instance of the image would have the same key. The
    host keys of SSH are made for each instance, and cloud-init's data is checked by the suite sealed."""
    found = _unexpected(facts["private-keys"], declared["expect"].get("private_keys", ()))
    _refuse(found, "private keys", "private_keys")


def test_no_authorized_keys(login_entries: Sequence[KeyEntry], declared: Mapping[str, Any]) -> None:
    """No SSH key but the one of this instance opens an account: a key in the image would open every instance."""
    logins = declared.get("login_keys")
    if logins is None:
        pytest.skip("NOT PROVEN: the keys of this host are not known; the test needs a new instance of the image")
    own = {material for line in logins for material in line.split()[1:2]}
    found = []
    for file, account, line in login_entries:
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if own & set(entry.split()) or account in declared["expect"].get("authorized_keys", ()):
            continue
        key = [word for word in entry.split() if not word.startswith("AAAA")]
        found.append(f"{file}: {' '.join(key)[:80]}")
    _refuse(found, "keys of SSH that open every instance", "authorized_keys")


def test_only_declared_ports_listen(
    host: Host, facts: Facts, declared: Mapping[str, Any], record_fact: Callable[[str, Any], None]
) -> None:
    """Other machines reach only the ports that the recipe and its agents declare, SSH, and DHCP clients. Sockets on a
    loopback address are left out."""
    if host.backend.in_user_namespace:
        pytest.skip(f"{NOT_EXECUTED}: this instance has no network of its own")
    if facts["ports"] == ["missing"]:
        pytest.skip("NOT PROVEN: the host has no program ss")
    found = dict(listeners(facts["ports"]))
    record_fact("ports", sorted(found))
    expected = [*declared["expect"].get("ports", ()), *_DHCP, *(f"{p}/tcp" for p in declared.get("ssh_ports", (22,)))]
    extra = [
        f"{port} ({program})" if program else port
        for port, program in sorted(found.items())
        if not any(in_range(port, one) for one in expected)
        and not (port in _NAMES_OF_LINKS and program.startswith("systemd-resolve"))
    ]
    _refuse(extra, "ports that nobody declared", "ports")


@pytest.mark.gate("image")
def test_no_leftovers(facts: Facts, declared: Mapping[str, Any]) -> None:
    """No shell history, logins of programs, dumps of memory or mail of the builder are in the image."""
    if not declared.get("fresh"):
        pytest.skip("NOT PROVEN: the test needs a new instance of the image")
    found = [
        f"{path} ({what})"
        for number, what in enumerate(declared.get("leftovers", {}))
        for path in _unexpected(facts[f"leftovers-{number}"], declared["expect"].get("private_keys", ()))
    ]
    assert not found, f"left in the image: {', '.join(found[:20])}"


@pytest.mark.gate("image")
def test_identity_was_made_at_this_boot(boot: int | None, facts: Facts, declared: Mapping[str, Any]) -> None:
    """The machine-id and the host keys of SSH are not older than this boot, so each instance has its own."""
    old = _before(boot, facts["identity"], declared)
    assert not old, f"made before the instance: {', '.join(old)}"


@pytest.mark.gate("image")
def test_no_old_temporary_files(boot: int | None, facts: Facts, declared: Mapping[str, Any]) -> None:
    """/tmp and /var/tmp have no file from before this boot."""
    old = _before(boot, facts["temporary"], declared)
    assert not old, f"temporary files of the builder: {', '.join(old[:20])}"


def _before(boot: int | None, files: Sequence[str], declared: Mapping[str, Any]) -> list[str]:
    """Return those of the files, listed as time and path, that are older than this boot. Skips the test on an instance
    that was not launched for it."""
    if not declared.get("fresh"):
        pytest.skip("NOT PROVEN: the test needs a new instance of the image")
    if boot is None:
        pytest.skip("systemd does not report the time of the boot")
    start = boot - _SECONDS  # the clock may be set while the system boots
    return [path for time, path in (line.split(" ", 1) for line in files) if float(time) < start]
